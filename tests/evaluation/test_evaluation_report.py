from ddr_tf.evaluation.metric import Metric
from ddr_tf.evaluation.report import report, summary_table

METRICS = {
    "elbo_nats_per_frame": Metric(-500.0, 1.0),
    "reconstruction_psnr": Metric(27.0, 0.1),
    "swap_psnr": Metric(26.0, 0.1, 15.0),
    "swap_identity_accuracy": Metric(0.5, 0.01, 0.0, 1.0),
    "leakage_dynamic_to_hair": Metric(0.05, 0.01, 0.0, 1.0),
    "leakage_dynamic_to_skin": Metric(0.65, 0.01, 0.0, 1.0),
    "swap_psnr_with_2_frames": Metric(25.0, 0.1, 15.0),
    "new_metric": Metric(1.0),
}


def rows(table):
    return {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}


def test_the_summary_says_how_good_against_which_chance_and_ceiling():
    lines = rows(summary_table(METRICS))
    assert lines["Are frames reconstructed?"] == ["reconstruction_psnr", "27.0 dB", "", "", ""]
    assert lines["Are swaps the true frames?"] == ["swap_psnr", "26.0 dB", "15.0", "27.0", "very good"]
    assert lines["Do swaps show A?"] == ["swap_identity_accuracy", "0.50", "0.00", "1.00", "fair"]
    # Of labels that leak, the worst; less is better.
    assert lines["Does z tell who it is?"] == ["leakage_dynamic_to_skin", "0.65", "0.00", "1.00", "poor"]
    assert "Does the prior of z show all poses?" not in summary_table(METRICS)


def test_swaps_no_better_than_chance_are_poor_even_if_reconstructions_are_no_better():
    blurred = METRICS | {"reconstruction_psnr": Metric(9.8), "swap_psnr": Metric(9.8, 0.1, 14.5)}
    assert rows(summary_table(blurred))["Are swaps the true frames?"][-1] == "poor"


def test_nothing_is_praised_where_z_changes_nothing():
    still = METRICS | {"reconstruction_psnr": Metric(19.6, 0.1, 19.6), "swap_psnr": Metric(19.1, 0.1, 10.5)}
    lines = rows(summary_table(still))
    assert [lines[question][-1] for question in ("Are frames reconstructed?", "Are swaps the true frames?")] == [
        "poor",
        "poor",
    ]
    alive = METRICS | {"reconstruction_psnr": Metric(27.0, 0.1, 19.6)}
    assert rows(summary_table(alive))["Are swaps the true frames?"][-1] == "very good"


def test_the_first_number_of_frames_is_reported_where_the_usual_one_is_missing():
    counted = {"parameters": Metric(5.0)}
    for count, better in ((4, 0.0), (2, -1.0)):
        for name in ("reconstruction_psnr", "swap_psnr", "swap_identity_accuracy"):
            counted[f"{name}_with_{count}_frames"] = METRICS[name]._replace(value=METRICS[name].value + better)
    text = report(counted, [])
    assert text.startswith("Metrics are those that end with _with_4_frames.\n")
    assert not any(row[0].startswith("swap") for row in rows(summary_table(counted)).values())
    lines = rows("\n".join(line for line in text.splitlines() if line.startswith("|")))
    assert lines["Are swaps the true frames?"][:2] == ["swap_psnr", "26.0 dB"]
    assert "with_2_frames" not in text and "with_2_frames" in report(counted, [], everything=True)


def test_every_metric_is_in_a_group_and_other_numbers_of_frames_only_if_asked_for():
    short, long = report(METRICS, []), report(METRICS, ["blur: it is. Do that."], everything=True)
    assert "swap_psnr_with_2_frames" not in short and "swap_psnr_with_2_frames" in long
    assert "Others\n\n" in short and "| new_metric |" in short
    assert all(name in long for name in METRICS)
    assert "Nothing is conspicuous." in short and "- blur: it is. Do that." in long
    assert "conspicuous" not in report(METRICS).lower()  # nobody has looked
