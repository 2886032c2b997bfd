"""From the first difference to its usual cause, by evidence that the traces hold.

Each finder looks for one fault and returns a `Diagnosis`, or None if the evidence is not there.
The finders for an aspect are asked in turn, the exact ones first; the last one always answers, and
says no more than what was seen. A new diagnosis is a finder in the module of its aspect, and a
place in `FINDERS` before the more general ones.
"""

from ..pair import Pair
from . import accumulation, batch, draws, ends, forward, gradient, start, update
from .ends import surroundings
from .finding import Diagnosis, Finder

__all__ = ["FINDERS", "Diagnosis", "diagnose", "surroundings"]

FINDERS: dict[str, tuple[Finder, ...]] = {
    "model": (start.tied, start.other_model),
    "initial weights": (start.trained_before, start.other_initialisation, start.other_start),
    "parameters": (update.rebuilt_optimizer, update.other_parameters),
    "batch": (
        batch.stepped_again,
        batch.other_accumulation,
        batch.dropped_last,
        batch.hidden_state,
        batch.shorter_epoch,
        batch.order_repeats,
        forward.forgotten_eval,
        draws.validation_draws,
        draws.validation_in_one,
        draws.other_random_data,
        draws.full_last_batch,
        draws.extra_draw,
        batch.same_data_mixed,
        batch.other_data,
    ),
    "mode": (forward.frozen_norm, forward.forgotten_mode),
    "precision": (forward.other_precision,),
    "forward output": (
        forward.changed_weights,
        forward.norm_in_parts,
        forward.forgotten_eval,
        forward.helper_draws,
        forward.other_dropout,
        forward.changed_buffers,
        forward.other_layer_settings,
        forward.other_forward,
    ),
    "gradient": (
        accumulation.cleared_before_step,
        accumulation.cleared_within,
        accumulation.cleared_once_in_closure,
        accumulation.leftovers,
        accumulation.forgotten_zero_grad,
        forward.norm_in_parts,
        gradient.cut_off,
        gradient.unscaled_late,
        gradient.clipped_early,
        gradient.clipped_by_call,
        gradient.clipped_values,
        gradient.clipped_norm,
        accumulation.weighed_otherwise,
        accumulation.constant_factor,
        gradient.not_differentiable,
        gradient.recomputed,
        forward.helper_in_training,
        gradient.helper_trained,
        gradient.precision_of_loss,
        gradient.grown_rounding,
        gradient.other_loss,
    ),
    "learning rate": (
        update.other_metric,
        update.one_step_apart,
        update.scheduler_rhythm,
        update.other_schedule,
        update.other_learning_rate,
    ),
    "optimizer": (update.rebuilt_optimizer, update.other_settings, update.other_update),
    "update": (gradient.grown_rounding, update.zero_or_none, update.other_update),
    "buffers": (ends.norm_settings, forward.forgotten_eval, ends.other_buffers),
    "length": (ends.shorter_run,),
    "final weights": (gradient.grown_rounding, ends.changed_after),
    "final buffers": (forward.forgotten_eval, ends.other_buffers),
    "rounding": (ends.rounding,),
}


def diagnose(pair: Pair, verdict: str) -> Diagnosis:
    """Return the diagnosis for the first difference of a pair."""
    aspect = "rounding" if verdict == "equal within rounding" else pair.aspect
    for finder in FINDERS[aspect]:
        found = finder(pair)
        if found is not None:
            return found
    raise AssertionError(f"no finder answered for {pair.aspect!r}")
