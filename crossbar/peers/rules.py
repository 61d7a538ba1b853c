"""aihwkit's compounds as rules of learning."""

from __future__ import annotations

from crossbar.chip import Chip
from crossbar.peers.given import Given
from crossbar.pulses import ExactBits, Scheme
from crossbar.rules import AGAD, ChoppedTikiTaka, Rule, TikiTaka, TikiTakaV1


def _v1(unit: Given, fast: Chip, scheme: Scheme, transfer: Scheme) -> Rule:
    return TikiTakaV1(
        fast_lr=unit("fast_lr"),
        transfer_lr=unit("transfer_lr"),
        every=int(unit("transfer_every")),
        batches=bool(unit("units_in_mbatch")),
        gamma=unit("gamma"),
        scheme=scheme,
        transfer=transfer,
        fast=fast,
    )


def _chopped(unit: Given, fast: Chip, scheme: Scheme, transfer: Scheme) -> Rule:
    agad = unit.kind == "DynamicTransferCompound"
    kind = AGAD if agad else ChoppedTikiTaka if unit("in_chop_prob") else TikiTaka
    more = {"tail": unit("tail_weightening")} if agad else {}
    if unit("units_in_mbatch", False):
        unit.say("units_in_mbatch")
    return kind(
        fast_lr=unit("fast_lr"),
        transfer_lr=unit("transfer_lr"),
        every=int(unit("transfer_every")),
        buffer=unit("buffer_granularity"),
        auto_granularity=unit("auto_granularity") or None,
        auto_scale=bool(unit("auto_scale")),
        scale_fast_lr=bool(unit("scale_fast_lr")),
        momentum=unit("momentum"),
        forget=bool(unit("forget_buffer")),
        transfer_bl=_bl(transfer),
        chop=unit("in_chop_prob"),
        regular=not unit("in_chop_random"),
        gamma=unit("gamma"),
        scheme=scheme,
        fast=fast,
        **more,
    )


def _buffered(unit: Given, fast: Chip, scheme: Scheme, transfer: Scheme) -> Rule:
    """H counts steps of the slow array: thres_scale g_C, in units of the fast one's g_A."""
    unit.say("thres_scale", ", H is counted in steps of the fast array")
    return TikiTaka(
        fast_lr=unit("fast_lr"),
        transfer_lr=unit("transfer_lr"),
        every=int(unit("transfer_every")),
        scale_fast_lr=bool(unit("scale_fast_lr")),
        momentum=unit("momentum"),
        forget=bool(unit("forget_buffer")),
        transfer_bl=_bl(transfer),
        gamma=unit("gamma"),
        scheme=scheme,
        fast=fast,
    )


def _bl(scheme: Scheme) -> int:
    return scheme.bl if isinstance(scheme, ExactBits) else 1


COMPOUNDS = {
    "TransferCompound": _v1,
    "ChoppedTransferCompound": _chopped,
    "DynamicTransferCompound": _chopped,
    "BufferedTransferCompound": _buffered,
}
