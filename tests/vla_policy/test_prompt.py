"""Instructions to token ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vla_policy.errors import VlaError
from vla_policy.prompt import OPENVLA_TEMPLATE, PLAIN_TEMPLATE, PromptEncoder, train_tokenizer

TOKENIZER = train_tokenizer(["press the bell", "lift the red cube"] * 10, vocab_size=300)


def encoder(max_tokens=64):
    return PromptEncoder(TOKENIZER, PLAIN_TEMPLATE, end_id=3, max_tokens=max_tokens)


def test_the_openvla_prompt_lowers_the_instruction_only():
    text = PromptEncoder(TOKENIZER, OPENVLA_TEMPLATE, 3, 64).prompt(" Press the BELL")
    assert text == "In: What action should the robot take to press the bell?\nOut:"


def test_prompts_are_right_padded_and_end_with_the_end_token():
    ids, mask = encoder().encode(["press the bell", "lift the red cube now"])
    lengths = mask.sum(1)
    assert ids.shape == mask.shape == (2, lengths.max())
    for row, length in zip(ids, lengths, strict=True):
        assert row[length - 1] == 3
        assert not row[length:].any()
    assert np.array_equal(mask, np.arange(ids.shape[1]) < lengths[:, None])


def test_the_special_tokens_have_llamas_ids():
    assert [TOKENIZER.token_to_id(token) for token in ("<pad>", "<s>", "</s>", "<act>")] == [0, 1, 2, 3]


def test_case_makes_no_difference():
    assert np.array_equal(encoder().encode(["Lift The CUBE"])[0], encoder().encode(["lift the cube"])[0])


def test_repeated_instructions_are_looked_up():
    prompts = encoder()
    first = prompts.encode(["press the bell"])[0]
    del prompts.tokenizer
    assert np.array_equal(prompts.encode(["press the bell"])[0], first)


def test_an_empty_instruction_is_the_end_token_alone():
    ids, mask = encoder().encode([""])
    assert ids.tolist() == [[3]]
    assert mask.tolist() == [[True]]


def test_an_overlong_instruction_is_refused():
    with pytest.raises(VlaError, match="fewer words"):
        encoder(max_tokens=5).encode(["put every single object you can find into the box"])


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12))
def test_no_text_fails_and_ids_stay_in_the_vocabulary(text):
    ids, _ = encoder(max_tokens=1000).encode([text])
    assert ids.max() < TOKENIZER.get_vocab_size() <= 300


def test_unknown_words_fall_back_to_bytes_and_decode_again():
    ids = TOKENIZER.encode("grasp the zebra 斑马").ids
    assert TOKENIZER.decode(ids).strip() == "grasp the zebra 斑马"


def test_the_vocabulary_size_is_a_maximum_and_the_file_is_the_tokenizer():
    assert train_tokenizer(["a"], vocab_size=512).get_vocab_size() <= 512
    again = Tokenizer.from_str(TOKENIZER.to_str())
    assert again.encode("lift the red cube").ids == TOKENIZER.encode("lift the red cube").ids
