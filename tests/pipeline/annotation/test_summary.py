from collections import Counter

from pipeline.annotation.annotate import JobReport
from pipeline.annotation.summary import start_line, summary_lines, unknown_words_line
from pipeline.sources.listing import SourceSummary
from schemas.job import LabelOptions
from schemas.labels import ShardTotals


def report(**changes) -> JobReport:
    sky = {"name": "sky", "pixels": 750, "pictures": 2}
    totals = ShardTotals(1200, 1198, {"decode/truncated": 1, "fetch/not_found": 1}, 1000, 100, {2: sky})
    whole = {
        "output": "out/", "n_rows": 1200, "n_shards": 5, "n_shards_before": 1, "n_rows_now": 1000, "seconds": 50.0,
        "totals": totals, "sources": SourceSummary(other_files=Counter({".txt": 3})), "is_random": False,
    }  # fmt: skip
    return JobReport(**{**whole, **changes})


def test_a_run_says_what_is_done_what_failed_and_where_it_lies():
    assert summary_lines(report()) == [
        "Done: 1,198 of 1,200 pictures are labelled, 2 failed. This run: 1,000 in 50 s, 20.00 a second.",
        "  failed:  decode/truncated 1, fetch/not_found 1",
        "  no pictures, left out: 3 .txt",
        "  largest: sky 75%",
        "  labels:  out/labels/*.parquet (5 shards)",
        "  which:   select image_id, error_message from 'out/labels/*.parquet' where status = 'failed'",
        "  again:   escnet retry out/ --only not_found (the others once they are mended in place)",
    ]


def test_pictures_that_would_fail_again_are_to_be_mended_first():
    totals = ShardTotals(3, 1, {"decode/truncated": 1, "fetch/empty": 1}, 1000, 100, {})
    again = "  again:   once the pictures are mended in place, escnet retry out/ --only empty,truncated"
    assert again in summary_lines(report(totals=totals))


def test_a_run_with_nothing_to_do_says_so():
    lines = summary_lines(report(n_shards_before=5, n_rows_now=0))
    assert lines[0] == "Nothing to do: 1,198 of 1,200 pictures are labelled, 2 failed."


def test_random_weights_are_never_passed_over_in_silence():
    assert "noise" in summary_lines(report(is_random=True))[-1]
    assert not any("noise" in line for line in summary_lines(report()))


def test_secrets_of_a_signed_address_are_not_shown():
    lines = summary_lines(report(output="https://user:pw@host/out?X-Amz-Signature=abc"))
    assert not any("abc" in line or "pw" in line for line in lines)


def test_a_run_begins_with_how_much_there_is_to_do_and_with_what():
    options = LabelOptions(views="single", device="cpu", dtype="float32", batch_size=1, cpus_per_actor=1, max_pixels=1)
    assert start_line(1200, 5, 0, options, 1) == "1,200 pictures in 5 shards; 1 actor on cpu, float32"
    assert (
        start_line(1200, 5, 1, options, 2)
        == "1,200 pictures in 5 shards, 1 shard done before; 2 actors on cpu, float32"
    )


def test_words_a_model_was_never_trained_with_are_named_in_one_line():
    words = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car"]
    said = "was never trained with 7 words used here (aeroplane, bicycle, bird, boat, bottle and 2 more)"
    assert unknown_words_line("my.safetensors", words) == (
        f"warning: my.safetensors {said}; what it labels by them means nothing"
    )
    assert "with 1 word used here (bird);" in unknown_words_line("my.safetensors", ["bird"])
