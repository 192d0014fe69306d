"""What is shown of a verification."""

from typing import Any

from prism.experiments.tables import Table, figure

FEW = 10  # subsets, below which a rank correlation says nothing


def tables(found: dict[str, Any]) -> list[Table]:
    """One step, whole trainings, and the linear datamodeling score."""
    shown = [_steps(found["one_step"])]
    if found["training"]:
        shown.append(_training(found["training"]))
    if found["lds"]:
        shown.append(_lds(found["lds"]))
    return shown


def remarks(found: dict[str, Any]) -> list[str]:
    """What should be known of the figures."""
    said = ["predicted: eta <g, g_KL>, with g the mean gradient of the rows; a ratio of 1 is the theory's"]
    step = found["one_step"]
    if step["precision"] not in ("float32", "float64"):
        said.append(
            f"the step was taken in {step['precision']}, which rounds short steps away: only long ones tell anything "
            "(select with --dtype float32, or auto without --quantize, for short ones)"
        )
    if found["method"] == "prism" and not found["curvature"]:
        slope, mean = step["chosen"]["slope"], step["mean_score"]
        said.append(f"<g, g_KL> of the chosen rows is {slope:.6g}, and the mean of their scores {mean:.6g}")
    if found["training"]:
        said.append(
            "after a whole training, predicted is what plain gradient descent with the same learning rates would do to "
            "first order; an optimizer such as Adam takes steps of another length, so there the sign and the order of "
            "chosen and random are what counts"
        )
        parts = [found["training"][name] for name in ("chosen", "random")]
        if all(part["predicted"] is None for part in parts):
            said.append(_unforetold(found["training"].get("weights"), parts[0].get("trained")))
    if found["lds"]:
        lds = found["lds"]
        said.append(
            f"{lds['subsets']} subsets of {lds['share']} of {lds['rows']:,} rows, one training each; their mean "
            f"preferences, which scores are to foretell, have a standard deviation of {lds['spread']:.4f}; intervals "
            "are bootstraps of the subsets"
        )
        if lds["subsets"] < FEW:
            said.append(f"{lds['subsets']} subsets are too few for a rank correlation, and for its interval")
    return said


def markdown(found: dict[str, Any]) -> str:
    """The whole as a document."""
    chosen = f"{found['rows']:,} of {found['pool']:,} rows by `{found['method']}`"
    head = f"# Verification\n\nRun `{found['run']}`: {chosen}.\n\n"
    body = "\n".join(table.markdown() for table in tables(found))
    return f"{head}{body}\n" + "".join(f"- {remark}\n" for remark in remarks(found))


def _unforetold(weights: int | None, trained: int | None) -> str:
    if weights != trained:
        why = f"the run has gradients of {weights or 0:,} weights, and {trained or 0:,} were trained"
    else:
        why = "not every step was recorded, or a LoRA was trained"
    return f"nothing is foretold of the whole training: {why}; --parameters all and --train full=true go together"


def _steps(step: dict[str, Any]) -> Table:
    held_out = len(step["before"]) > 1
    rows = []
    for name in ("chosen", "random"):
        for s in step[name]["steps"]:
            same = "yes" if s["predicted"] * s["measured"][0] > 0 else "no"
            rows.append(
                [
                    name,
                    f"{s['size']:.0e}",
                    f"{s['rate']:.3g}",
                    f"{s['predicted']:+.3g}",
                    f"{s['measured'][0]:+.3g}",
                    figure(s["ratio"]),
                    same,
                    *[f"{s['measured'][1]:+.3g}" if held_out else ""] * held_out,
                ]
            )
    columns = ["rows", "step / weights", "learning rate", "predicted", "change of K", "ratio", "same sign"]
    return Table("one step of gradient descent", [*columns, *["held-out K"] * held_out], rows)


def _training(training: dict[str, Any]) -> Table:
    held_out = "held_out" in training["before"]
    rows = []
    for name in ("chosen", "random"):
        part = training[name]
        target, predicted = part["changes"]["target"], part["predicted"]
        other = part["changes"].get("held_out", {})
        rows.append(
            [
                name,
                part["optimizer"],
                f"{part['steps']:,}",
                figure(predicted, "+.3g"),
                f"{target['potential']:+.3g}",
                "–" if not predicted else f"{target['potential'] / predicted:.3g}",
                f"{target['preference']:+.3f}",
                *[f"{other[key]:+.3f}" for key in ("potential", "preference") if held_out],
            ]
        )
    columns = ["rows", "optimizer", "steps", "predicted", "change of K", "ratio", "preference"]
    return Table("whole training", [*columns, *["held-out K", "held-out preference"] * held_out], rows)


def _lds(lds: dict[str, Any]) -> Table:
    held_out = any("held_out" in m for m in lds["methods"].values())
    rows = [
        [
            name,
            figure(m.get("pair")),
            figure(m["potential"]),
            figure(m["mean"]),
            *[figure(m.get("held_out"))] * held_out,
        ]
        for name, m in lds["methods"].items()
    ]
    columns = ["method", "per target pair, mean", "K", "mean preference", *["held-out mean preference"] * held_out]
    return Table("linear datamodeling score: Spearman's rank correlation", columns, rows)
