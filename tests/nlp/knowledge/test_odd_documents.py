"""Documents as people keep them: what they say is found."""

from __future__ import annotations

from nlp.knowledge import KnowledgeBase


def test_a_language_without_spaces_is_found(knowledge: KnowledgeBase):
    knowledge.put("hours.md", "# 营业时间\n\n商店早上九点开门，晚上六点关门。\n".encode())
    found = knowledge.search("商店几点开门？")
    assert found
    assert "九点开门" in found[0].text


def test_words_divided_at_the_end_of_a_line_are_found_and_quoted_whole(knowledge: KnowledgeBase):
    knowledge.put("manual.txt", b"The new instal-\nlation manual explains the photo-\nsynthesis unit.\n")
    found = knowledge.search("What does the photosynthesis unit do?")
    assert "installation manual explains the photosynthesis unit" in " ".join(found[0].text.split())


def test_the_title_in_toml_front_matter_is_the_documents_title(knowledge: KnowledgeBase):
    info, _ = knowledge.put("costs.md", b'+++\ntitle = "Shipping costs"\n+++\n\nWe charge five euros per parcel.\n')
    assert info.title == "Shipping costs"
    found = knowledge.search("What are the shipping costs?")
    assert found[0].text == "We charge five euros per parcel."
