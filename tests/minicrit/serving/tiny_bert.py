"""A random BERT of some thousand weights in the form of the embedding model, made on the spot."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from minicrit.manifest import write_manifest
from minicrit.serving.embedding import NAME

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def lay_out_bert(bases: Path) -> Path:
    """The folder that `Embedder.load(bases)` finds; its tokenizer knows single letters."""
    folder = bases / NAME
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,%'"
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)  # as the real one: a length of its own, which must not count
    tokenizer.enable_padding(length=8)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32,
                        num_hidden_layers=2, num_attention_heads=2,
                        max_position_embeddings=512)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    write_manifest(folder, stage="base", inputs={}, settings={}, facts={"identity": "tiny bert"})
    return folder
