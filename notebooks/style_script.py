"""Fast neural style transfer in one script, as such scripts grow: see --help."""

import argparse
import csv
import time
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from course_utils.models import TransformNet, load_loss_network
from course_utils.pictures import luminance, photograph


def main(words=None):
    parser = argparse.ArgumentParser(description="Train a network that redraws photographs.")
    parser.add_argument("--style", default="immunohistochemistry", help="a name or a path")
    parser.add_argument("--photographs", nargs="+", help="names or paths")
    parser.add_argument("--sample", default="chelsea", help="redrawn every --sample-every steps")
    parser.add_argument("--loss-network", default="bundled", help="bundled, vgg or a file")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="of the crops, in pixels")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--content-weight", type=float, default=0.3)
    parser.add_argument("--smooth-weight", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--sample-every", type=int, default=100)
    parser.add_argument("--out-dir", default="runs/style_script")
    args = parser.parse_args(words)
    if args.size % 4 or args.size < 32:
        parser.error(f"--size must be a multiple of 4, from 32 on, not {args.size}")
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)

    torch.manual_seed(args.seed)
    model = TransformNet(args.width).to(device)
    loss_network = load_loss_network(args.loss_network)
    loss_network.eval()
    for parameter in loss_network.parameters():
        parameter.requires_grad = False

    style = luminance(photograph(args.style, longest=256))[None]
    with torch.no_grad():
        stages = [maps.flatten(2) for maps in loss_network.features(style)]
        grams = [(rows @ rows.transpose(1, 2) / rows.shape[-1]).to(device) for rows in stages]
    loss_network = loss_network.to(device)

    names = args.photographs or ["astronaut", "chelsea", "rocket", "coins", "moon"]
    pictures = [luminance(photograph(name, longest=256)) for name in names]
    if args.size > min(side for picture in pictures for side in picture.shape[-2:]):
        parser.error(f"--size {args.size} is larger than one of the photographs")
    sample = photograph(args.sample, longest=192)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed)
    log_file = open(out_dir / "log.csv", "w", newline="")
    writer = csv.writer(log_file)
    writer.writerow(["step", "loss", "style", "content", "roughness"])
    sums, count, start = torch.zeros(4, device=device), 0, time.time()

    model.train()
    for step in range(1, args.steps + 1):
        crops = []
        for _ in range(args.batch_size):
            picture = pictures[int(torch.randint(len(pictures), (), generator=generator))]
            height, width = picture.shape[-2:]
            top = int(torch.randint(height - args.size + 1, (), generator=generator))
            left = int(torch.randint(width - args.size + 1, (), generator=generator))
            crops.append(picture[:, top : top + args.size, left : left + args.size])
        x = torch.stack(crops).to(device)
        noise = torch.rand_like(x)

        drawn = model(x, noise)
        after = loss_network.features(drawn)
        with torch.no_grad():
            before = loss_network.features(x, stages=2)
        style_loss = 0
        for maps, target in zip(after, grams, strict=True):
            rows = maps.flatten(2)
            gram = rows @ rows.transpose(1, 2) / rows.shape[-1]
            gap = ((gram - target) ** 2).sum((1, 2)).mean() / (target**2).sum()
            style_loss = style_loss + gap
        style_loss = style_loss / len(grams)
        content_loss = F.mse_loss(after[1], before[1]) / before[1].var()
        across = (drawn[..., 1:] - drawn[..., :-1]).abs().mean()
        down = (drawn[..., 1:, :] - drawn[..., :-1, :]).abs().mean()
        rough = across + down
        loss = style_loss + args.content_weight * content_loss + args.smooth_weight * rough

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        sums += torch.stack([loss, style_loss, content_loss, rough]).detach()
        count += 1
        if step % args.log_every == 0 or step == args.steps:
            means = [round(value, 5) for value in (sums / count).tolist()]
            writer.writerow([step, *means])
            log_file.flush()
            seconds = time.time() - start
            print(f"step {step}: loss {means[0]:.4f}, style {means[1]:.4f}, ", end="")
            print(f"content {means[2]:.4f}, {1000 * seconds / step:.0f} ms a step")
            sums.zero_()
            count = 0
        if step % args.sample_every == 0 or step == args.steps:
            model.eval()
            with torch.no_grad():
                height, width = (side // 4 * 4 for side in sample.shape[-2:])
                cut = sample[:, :height, :width]
                grey = luminance(cut)
                fixed = torch.Generator().manual_seed(0)
                noise = torch.rand((1, *grey.shape), generator=fixed)
                drawn = model(grey[None].to(device), noise.to(device))[0].cpu()
                result = (cut + drawn - grey).clamp(0, 1)
            pixels = (255 * result).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(out_dir / f"sample_{step:05}.png")
            model.train()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "args": vars(args)}, out_dir / "checkpoint.pt")
    log_file.close()
    torch.save(model.state_dict(), out_dir / "weights.pt")


if __name__ == "__main__":
    main()
