"""The sections that say how far the page can be trusted: model, checks, quarantine, coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keepline.report import figures
from keepline.report.blocks import Block, Note, Plot, Section, Table
from keepline.report.formats import count, plural, sentence, share
from keepline.report.outcome import said_and_came
from keepline.report.quality import Quality
from keepline.report.reading import Marts, Release, RunBook
from keepline.report.rows import Check, Outcome

SYNTHETIC = (
    "Synthetic data: these figures prove the machinery, not the real world. The operator is simulated "
    "and its reasons to leave were planted, so a real base is harder to foresee."
)
MEASURES_IN_WORDS = (
    "Said: the mean risk that the model gave. AUC: the chance that a line that left was ranked above "
    "one that stayed (0.5 is guessing). Lift: how many times more leavers the riskiest tenth holds than "
    "the base. Calibration error: mean gap between the risk said and the share that came true."
)
TONES = {"critical": "bad", "warning": "warn"}


def model_quality(
    qualities: Sequence[Quality],
    sentences: Sequence[str],
    outcomes: Sequence[Outcome],
    book: RunBook,
    *,
    simulated: bool,
) -> Section:
    """Return how well the models foresee, on a month that they were not trained on.

    Args:
        qualities: the models that scored the release.
        sentences: what the scoring said.
        outcomes: what came of published scores that are old enough.
        book: for what training said when there is no model.
        simulated: the operator never existed.
    """
    title = "Model quality"
    blocks: list[Block] = [Note(SYNTHETIC, "warn")] if simulated else []
    if not qualities:
        said = list(sentences)
        if not said or book.training_message.startswith("no model"):
            said.append(
                sentence(book.training_message or "nothing was trained before this release")
            )
        blocks.append(Note(" ".join(["No model scored this release.", *said]), "empty"))
        return Section("model", title, blocks)
    for number, quality in enumerate(qualities):
        blocks.append(_measures(quality))
        if quality.tenths:
            blocks.append(_calibration(quality, f"plot-calibration-{number}"))
        blocks += [Note(note) for note in quality.notes]
    blocks += said_and_came(outcomes, qualities)
    blocks += [Note(text) for text in sentences]
    lead = f"The risk of a line is {qualities[-1].horizon}. {MEASURES_IN_WORDS}"
    return Section("model", title, blocks, lead)


def _measures(quality: Quality) -> Table:
    return Table(
        f"Model {quality.version}, trained on what was known on {quality.known_on}",
        (
            "Payment",
            "Measured on",
            "Lines #",
            "Lost #",
            "Churn #",
            "Said #",
            "AUC #",
            "PR-AUC #",
            "Lift #",
            "Brier #",
            "Calibration error #",
        ),
        [
            (
                row.payment_type,
                row.part,
                count(row.values.get("n")),
                count(row.values.get("positives")),
                share(row.values.get("base_rate")),
                share(row.values.get("mean_probability")),
                _number(row.values.get("auc"), 3),
                _number(row.values.get("pr_auc"), 3),
                _number(row.values.get("top_decile_lift"), 1),
                _number(row.values.get("brier"), 4),
                share(row.values.get("ece"), digits=2),
            )
            for row in quality.measured
        ],
    )


def _calibration(quality: Quality, name: str) -> Plot:
    return Plot(
        name,
        figures.calibration_lines(quality.tenths),
        "Said against seen, by tenth of the risk: on the dotted line the risk came true as said.",
        "Lines of the churn that came true against the risk that was said, by payment type.",
        wide=True,
        numbers=Table(
            "The numbers",
            ("Payment", "Said #", "Came true #", "Lines #"),
            [
                (
                    tenth.payment_type,
                    share(tenth.said, digits=2),
                    share(tenth.seen, digits=2),
                    count(tenth.lines),
                )
                for tenth in quality.tenths
            ],
            folded=True,
        ),
    )


def gates(book: RunBook) -> Section:
    """Return what the gates said: failed checks first and in the open."""
    title = "What the gates said"
    if not book.checks:
        why = "No check was recorded for this release: do not rely on it."
        return Section("gates", title, [Note(why, "bad")])
    failed = [check for check in book.checks if not check.success]
    passed = [check for check in book.checks if check.success]
    blocks: list[Block] = []
    if failed:
        blocks.append(_checks(f"Failed: {plural(len(failed), 'check')}", failed, folded=False))
    else:
        unjudged = sum(not check.is_judged for check in passed)
        rest = f"; {plural(unjudged, 'check')} had too little to judge by" if unjudged else ""
        blocks.append(Note(f"No check failed{rest}." if unjudged else "Every check passed."))
    if passed:
        blocks.append(_checks(f"Passed: {plural(len(passed), 'check')}", passed, folded=True))
    whole = Counter(check.gate for check in book.checks)
    good = Counter(check.gate for check in passed)
    lead = "; ".join(f"{gate}: {good[gate]} of {whole[gate]} passed" for gate in sorted(whole))
    return Section("gates", title, blocks, f"{lead[0].upper()}{lead[1:]}.")


def _checks(caption: str, checks: Sequence[Check], *, folded: bool) -> Table:
    return Table(
        caption,
        ("Severity", "Gate", "Where", "Check", "Found"),
        [
            (
                check.severity,
                check.gate,
                ".".join(name for name in (check.table_name, check.column_name) if name),
                check.expectation,
                check.observed,
            )
            for check in checks
        ],
        folded=folded,
        tones=[("" if check.success else TONES.get(check.severity, "")) for check in checks],
    )


def quarantine(book: RunBook, release: Release) -> Section:
    """Return which rows were set aside, and whether what arrived adds up."""
    title = "Quarantine"
    arrived = book.arrivals
    if not arrived.batches:
        why = f"No arrival is on record for {release.window}."
        return Section("quarantine", title, [Note(why, "warn")])
    lead = (
        f"For {release.window} {plural(arrived.physical, 'row')} arrived in "
        f"{plural(arrived.batches, 'batch', 'batches')}: {count(arrived.loaded)} loaded, "
        f"{count(arrived.quarantined)} set aside, {count(arrived.skipped)} left out as the contract says."
    )
    blocks: list[Block] = []
    if arrived.unbalanced:
        words = plural(arrived.unbalanced, "batch does", "batches do")
        blocks.append(Note(f"{words} not add up: rows are missing. See ops.reconciliation.", "bad"))
    else:
        lead += " Every batch adds up."
    if book.set_aside:
        blocks.append(
            Table(
                "Rows set aside, by reason",
                ("Reason", "Table", "Rows #"),
                [(row.reason_code, row.table_name, count(row.rows)) for row in book.set_aside],
            )
        )
    else:
        blocks.append(Note("No row was set aside."))
    return Section("quarantine", title, blocks, lead)


def coverage(marts: Marts) -> Section:
    """Return which source tables hold nothing or little, and what the marts cannot say for it."""
    title = "What the marts could not cover"
    if not marts.marts_covered:
        return Section("coverage", title, [Note("The coverage of the marts is not known.", "warn")])
    if not marts.lacks:
        why = "Nothing: every source table that a mart reads holds what it should."
        return Section("coverage", title, [Note(why)])
    lacking = {lack.mart_name for lack in marts.lacks}
    table = Table(
        f"{len(lacking)} of {plural(marts.marts_covered, 'mart')} had to do without a table or with "
        "part of one",
        ("Mart", "Mart is", "Table", "Table is", "So"),
        [
            (
                f"mart.{lack.mart_name.removeprefix('mart_')}",
                lack.mart_coverage,
                lack.contract_table,
                lack.table_coverage,
                lack.sentence,
            )
            for lack in marts.lacks
        ],
    )
    lead = "Such a mart still builds: what it would need stays empty and is never invented."
    return Section("coverage", title, [table], lead)


def how_to_read(release: Release, marts: Marts) -> Section:
    """Return the words that the page uses."""
    silence = (
        plural(marts.silence_lost_by, "day")
        if marts.silence_lost_by
        else "as many days as the definition of the operator asks for"
    )
    words = (
        (
            "Business date",
            f"Everything is as known at the end of {release.business_date}. Rows that arrive later "
            "change a later release, not this one.",
        ),
        ("Line", "A subscription. Its number is masked."),
        (
            "Lost, churn",
            f"A prepaid line is lost from the first day of a silence of {silence}, and that is known "
            "only when they are over: the newest months show fewer losses than they will in the end. "
            "A postpaid line is lost when it is terminated or taken to another operator.",
        ),
        (
            "Provisional",
            "Losses of the month can still become known. A month is settled when none can, for any "
            "payment type; the figures at the top are those of the last one that is.",
        ),
        (
            "Whole month",
            "A month that has ended and that the record does not begin within. Only whole months are "
            "compared with each other.",
        ),
        (
            "Won back",
            "Lines that were lost and came back. They count as lost in the month of the loss and as "
            "won back in the month of the return.",
        ),
        ("Risk", "A chance, not a rank: of a hundred lines at 20 % about twenty are lost."),
        (
            "Tier",
            "Whether a contact pays, not how probable a loss is: a line at risk that brings little is "
            "LOW. SILENT lines have been silent for too long for any contact to reach them; no model "
            "knows such lines, so they have no risk. That does not make them safe: most are on their "
            "way out.",
        ),
        (
            "May be contacted",
            "Of age, in service, within reach, and surely the person that we take them for. Others are "
            "never counted as lines to call.",
        ),
        (
            "12-month revenue",
            "Own revenue to expect from a line in a year if it stays, later months counted a little "
            "less. Costs are not known, so it is no profit. The expected loss is risk times this "
            "revenue.",
        ),
        (
            "Calling brings",
            "The revenue that a contact saves on average, less the offer and the contact.",
        ),
        (
            "Why",
            "What raises the risk of this line most in the eyes of the model. It helps to prepare a "
            "call; it is nothing to say to the customer.",
        ),
        ("Money", "Yuan without tax."),
    )
    return Section(
        "reading",
        "How to read this page",
        [Table("Words of this page", ("Word", "Meaning"), words)],
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
