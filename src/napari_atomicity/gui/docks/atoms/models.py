"""The models that find atoms, to choose from."""

from __future__ import annotations

from ....atoms.card import SHIPPED, AtomCard
from ....models.files import available_cards
from ...panels.forms import ModelCombo, describe_card


class AtomModelCombo(ModelCombo):
    """The atom models at hand."""

    setting, usual = "atoms/model", SHIPPED["default"]

    def available(self) -> list[tuple[str, str]]:
        cards = available_cards(AtomCard)
        return [(card.name, describe_card(card, card.intended_use)) for card in cards]
