"""Text as letters."""

from hypothesis import given, strategies as st

from jaxaudio.text import letters


def test_texts_become_letters_and_back():
    assert letters.read(letters.spell("Déjà vu, l’ami: 3 fois!")) == "deja vu l'ami fois"
    assert letters.spell("ab") == [3, 4] and letters.LABELS == 29
    assert letters.spell("Активировано") == []
    assert letters.read([0, 3, 99, -1, 4]) == "ab"


@given(st.text(alphabet=letters.ALPHABET))
def test_what_is_spelt_reads_the_same(text):
    assert letters.read(letters.spell(text)) == " ".join(text.split())
