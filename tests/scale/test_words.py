"""What workers said last: read as it grows, and told in an error."""

from course_utils.scale.words import WorkerLogs, failures, told


def report(*ended):
    """Return what torchrun reports of workers that ended so: pairs of rank and exit code."""
    lines = ["Failures:"]
    for index, (rank, code) in enumerate(ended):
        lines += [f"[{index}]:", "  host      : here"]
        lines += [f"  rank      : {rank} (local_rank: {rank})", f"  exitcode  : {code} (pid: 7)"]
    return lines


def test_lines_are_read_as_they_come(tmp_path):
    folder = tmp_path / "run_1" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    out, err, logs = folder / "stdout.log", folder / "stderr.log", WorkerLogs(tmp_path)
    assert logs.new() == []
    out.write_bytes("one\nhälf".encode())
    err.write_bytes(b"wrong\r\n")
    assert logs.new() == [(1, "one"), (1, "wrong")]
    out.write_bytes("one\nhälf of it\nthe rest".encode())
    assert logs.new() == [(1, "hälf of it")]
    assert logs.new(last=True) == [(1, "the rest")] and logs.new(last=True) == []


def test_whoever_the_launcher_ended_has_not_failed():
    failed = failures(report((0, -15), (1, -9)), [(0, "a"), (1, "b")])
    assert [str(failure) for failure in failed] == ["worker 1 was ended by SIGKILL (exit code -9)"]
    assert failed[0].words == ("b",)
    by_hand = failures(report((0, -15)), [])
    assert told(by_hand) == "Worker 0 was ended by SIGTERM (exit code -15). It printed nothing."


def test_last_words_are_few_and_short():
    said = [(0, f"line {number}") for number in range(100)]
    said += [(0, ""), (0, "10%\r20%\r30%"), (0, "x" * 100_000)]
    words = failures(report((0, 1)), said)[0].words
    assert words[-3:] == ("line 99", "30%", "x" * 300) and len(words) == 8


def test_the_same_mistake_in_many_workers_is_told_in_few_lines():
    text = told(failures(report(*((rank, 2) for rank in range(64))), [(9, "no")]))
    assert text.count("It printed nothing.") == 4
    assert text.endswith("; worker 63 ended with exit code 2.") and len(text.splitlines()) == 5


def test_a_signal_without_a_name_and_no_report():
    assert (
        str(failures(report((2, -99)), [])[0]) == "worker 2 was ended by signal 99 (exit code -99)"
    )
    assert failures(["Killed"], [(0, "rank      : 0 (local_rank: 0)\nexitcode  : 1")]) == []
    assert told([]) == ""
