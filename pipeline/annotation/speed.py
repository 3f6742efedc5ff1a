"""How fast the model alone is, how much of that a run reached, and what kept it from more, in words."""

from schemas.timings import READING, RunTimings

GOOD = 0.95  # of the model's own speed: what is missing is not worth a word
LONG_START = 0.25  # of the whole run
SHORT_RUN_S = 30.0  # in which starting is most of the time, and the next run may be quite another

_BEHIND = "PNG and Parquet take longer than the model: more CPU cores for each actor"
_ADVICE = {
    "fetch": "fetching pictures: bring them nearer to the actors, or start more actors, which fetch side by side",
    "memory": "pictures so large that they are decoded one by one",
    "decode": "decoding pictures: more CPU cores for each actor, or smaller pictures",
    "prepare": "resizing pictures: more CPU cores for each actor, or smaller pictures",
    "encoding": f"encoding labels: {_BEHIND}",
    "cores": "decoding, encoding or other programs on the cores that the models need: leave cores without an actor",
    "shards": "actors without a shard: a smaller --shard-size, or more pictures at once",
}


def speed_lines(timings: RunTimings) -> list[str]:
    """What the models alone would have done, what was reached of that, and what held the run back."""
    alone, reached = timings.alone_per_s, timings.reached
    if alone is None or reached is None:
        return []
    whole = timings.start_s + timings.labelling_s + timings.end_s
    actors = "1 actor" if timings.n_actors == 1 else f"{timings.n_actors} actors"
    lines = [
        f"  speed:   the model alone does {alone:.2f} pictures a second on {actors}; "
        f"while labelling this run came to {timings.labelled_per_s:.2f}, {reached:.0%} of that",
        f"  time:    {timings.start_s:.1f} s to start, {timings.labelling_s:.1f} s labelling, "
        f"{timings.end_s:.1f} s to end",
    ]
    if whole < SHORT_RUN_S:
        return lines
    if reached < GOOD:
        reason, share = held_back(timings)
        lines.append(f"  held up: {share:.0%} by {_ADVICE[reason]}")
    elif timings.start_s > LONG_START * whole:
        lines.append(f"  held up: {timings.start_s / whole:.0%} by the start: label more pictures with one command")
    return lines


def held_back(timings: RunTimings) -> tuple[str, float]:
    """What cost the most of the models' time, a reason of `RunTimings.lost` or a stage of reading, and how much."""
    lost = timings.lost()
    reason = max(lost, key=lambda name: lost[name])
    if reason != "pictures":
        return reason, lost[reason]
    seconds = timings.shards.seconds
    return max(READING, key=lambda stage: seconds.get(stage, 0.0)), lost[reason]
