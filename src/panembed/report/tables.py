"""Scores as tables for a page (Markdown) and for a paper (LaTeX), in percent with one decimal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panembed.io.atomic import write_text

_GROUPS = ("all", "things", "stuff")
_QUALITY = ("pq", "sq", "rq")
_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"} | {
    "^": r"\textasciicircum{}"
}  # fmt: skip


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal; a dash where there is none.

    >>> percent(0.8391), percent(None)
    ('83.9', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}"


def markdown_text(text: str) -> str:
    r"""The text for a heading, a cell or an entry of a list, which a line break or a bar would end.

    >>> print(markdown_text("a\n b | c"))
    a b \| c
    """
    return " ".join(text.split()).replace("|", r"\|")


def latex_text(text: str) -> str:
    r"""The text for LaTeX, in one line.

    >>> print(latex_text("a_b\n & c"))
    a\_b \& c
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def scores_markdown(metrics: Mapping[str, Any]) -> str:
    r"""Write the scores of one evaluation as a Markdown table: PQ, SQ, RQ, AP, AP50 and IoU, for groups and classes.

    AP and AP50 of "things" are means over things; IoU of "all" is the mean over all classes (mIoU).

    Args:
        metrics: what `panembed.evaluation.scores.Evaluation.metrics` gives, or the content of a metrics.json.

    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> from panembed.evaluation.scores import Evaluation
    >>> plants = SyntheticDataset(1, size=64)
    >>> evaluation = Evaluation(plants.label_set)
    >>> evaluation.add("a", plants.read_truth(plants.ids[0]), plants.read_truth(plants.ids[0]))
    >>> print(scores_markdown(evaluation.metrics()).splitlines()[2])
    | **all** | 100.0 | 100.0 | 100.0 | - | - | 100.0 | 18 | 0 | 0 |
    """
    titles = ("", "PQ", "SQ", "RQ", "AP", "AP50", "IoU", "matched", "unmatched predicted", "unmatched true")
    lines = [_markdown_row(titles), "|---|" + "---:|" * (len(titles) - 1)]
    extra: dict[str, dict[str, Any]] = {
        "all": {"iou": metrics.get("miou")},
        "things": {"ap": metrics.get("ap"), "ap50": metrics.get("ap50")},
        "stuff": {},
    }
    rows = [(f"**{name}**", {**metrics[name], **extra[name]}) for name in _GROUPS]
    rows += [(markdown_text(name), score) for name, score in metrics["per_class"].items()]
    for name, score in rows:
        shares = [percent(score.get(key)) for key in (*_QUALITY, "ap", "ap50", "iou")]
        lines.append(_markdown_row([name, *shares, *(str(score[key]) for key in ("tp", "fp", "fn"))]))
    lines += ["", *_remarks(metrics), ""]
    return "\n".join(lines)


def latex_rows(models: Mapping[str, Mapping[str, Any]]) -> str:
    r"""Write one LaTeX row a model: PQ, SQ and RQ of all, things and stuff, as Zachow 2022 has Tables 4.3 and 4.4.

    The heading comes as comments, so that the file can be taken into a table with `\input`.

    Args:
        models: metrics (as for `scores_markdown`) by the model's name.

    >>> score = {"pq": 0.839, "sq": 0.922, "rq": 0.902}
    >>> print(latex_rows({"U-Net_1": {"all": score, "things": score, "stuff": score}}).splitlines()[-1])
    U-Net\_1 & 83.9 & 92.2 & 90.2 & 83.9 & 92.2 & 90.2 & 83.9 & 92.2 & 90.2 \\
    """
    marks = ("", "^{Th}", "^{St}")
    titles = [f"$\\mathrm{{{figure.upper()}}}{mark}$" for mark in marks for figure in _QUALITY]
    groups = " & ".join(f"\\multicolumn{{3}}{{c}}{{{group.capitalize()}}}" for group in _GROUPS)
    lines = [
        r"% \begin{tabular}{l*{9}{r}}",
        f"%  & {groups} \\\\",
        f"% Model & {' & '.join(titles)} \\\\",
    ]
    for name, metrics in models.items():
        figures = [percent(metrics[group][figure]) for group in _GROUPS for figure in _QUALITY]
        lines.append(f"{latex_text(name)} & {' & '.join(figures)} \\\\")
    return "\n".join(lines) + "\n"


def write_tables(folder: Path, name: str, metrics: Mapping[str, Any]) -> None:
    """Write scores.md and scores.tex.

    Args:
        folder: must exist.
        name: of the model, for the LaTeX row.
        metrics: as for `scores_markdown`.

    Raises:
        OutputError: the folder can't be written.

    >>> import tempfile
    >>> from panembed.datasets.synthetic import SyntheticDataset
    >>> from panembed.evaluation.scores import Evaluation
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tables(Path(folder), "none", Evaluation(SyntheticDataset(1).label_set).metrics())
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['scores.md', 'scores.tex']
    """
    write_text(folder / "scores.md", scores_markdown(metrics))
    write_text(folder / "scores.tex", latex_rows({name: metrics}))


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural but for one.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _markdown_row(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _remarks(metrics: Mapping[str, Any]) -> list[str]:
    counts = f"{metrics['objects_true']} true, {metrics['objects_predicted']} predicted"
    parts = [f"{counted(metrics['images'], 'image')}; objects: {counts}."]
    if metrics.get("sbd") is not None:
        parts.append(
            f"SBD {percent(metrics['sbd'])}, abs. DiC {metrics['abs_dic']:.2f}, FBD {percent(metrics['fbd'])}."
        )
    parts.append("PQ as panopticapi counts it, in percent.")
    if metrics.get("ap") is not None:
        ignored = f", objects below {metrics['ap_min_area']} px ignored" if metrics["ap_min_area"] else ""
        parts.append(f"AP as Cityscapes counts it without scores (every confidence 1){ignored}.")
    return [" ".join(parts)]
