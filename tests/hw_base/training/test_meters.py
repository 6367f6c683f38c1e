from hw_base.training.meters import in_a_line


def test_a_line_of_the_log_names_the_whole_split_and_counts_the_rest():
    values = {f"val/mcd/voice_{i}": 1.0 for i in range(50)} | {f"val/metric_{i}": float(i) for i in range(20)}
    line = in_a_line(values)
    assert len(line) < 400
    assert line.startswith("val/metric_0 0.0000, val/metric_1 1.0000")
    assert line.endswith(", and 58 more in metrics.jsonl")
    assert in_a_line({"val/loss": 0.5}) == "val/loss 0.5000"
