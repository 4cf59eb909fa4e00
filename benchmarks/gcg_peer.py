"""nanogcg's side of gcg.py, in an environment of its own: it asks for transformers up to 4.47.

Started by gcg.py as `PYTHON gcg_peer.py DIR`; DIR has a model, `tokenizer.json`, its special tokens in `tokens.json`
and the search in `search.json`. It answers in lines of JSON: first what it runs on, its number of tokens in a row and
the loss of the start; then, for each line that it is sent, the CPU seconds of one more step and the number of swaps
whose loss was computed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import nanogcg.gcg
import torch  # noqa: TID253 - it is what is measured
import transformers  # noqa: TID253


def say(**values: Any) -> None:
    """One line of the answer."""
    print(json.dumps(values), flush=True)


class Paused(nanogcg.gcg.GCG):  # type: ignore[misc]
    """The search, which waits before each step."""

    began = 0.0
    tried = 0

    def compute_token_gradient(self, optim_ids: torch.Tensor) -> torch.Tensor:
        """A step begins here."""
        if self.began:
            say(seconds=time.process_time() - self.began, tried=self.tried)
        else:
            row = [self.before_embeds, self.embedding_layer(optim_ids), self.after_embeds, self.target_embeds]
            embeds = torch.cat(row, dim=1)
            logits = self.model(inputs_embeds=embeds).logits[0, -1 - self.target_ids.shape[1] : -1].float()
            loss = torch.nn.functional.cross_entropy(logits, self.target_ids[0])
            versions = {each.__name__: each.__version__ for each in (torch, transformers)}
            say(versions=versions, tokens=embeds.shape[1], loss=float(loss.detach()))
        if not sys.stdin.readline():
            sys.exit(0)
        self.began = time.process_time()
        return super().compute_token_gradient(optim_ids)

    def _compute_candidates_loss_original(self, search_batch_size: int, input_embeds: torch.Tensor) -> torch.Tensor:
        self.tried = len(input_embeds)
        return super()._compute_candidates_loss_original(search_batch_size, input_embeds)


def main() -> None:
    """Search until no more lines come."""
    home = Path(sys.argv[1])
    search = json.loads((home / "search.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    tokens = json.loads((home / "tokens.json").read_text(encoding="utf-8"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(home / "tokenizer.json"), **tokens)
    dtype = getattr(torch, search["dtype"])
    model = transformers.AutoModelForCausalLM.from_pretrained(home, torch_dtype=dtype).eval().requires_grad_(False)
    config = nanogcg.gcg.GCGConfig(
        num_steps=1_000_000, optim_str_init=search["start"], search_width=search["candidates"], topk=search["top"],
        filter_ids=False, seed=0, verbosity="ERROR",
    )  # fmt: skip
    nanogcg.gcg.logger.setLevel("ERROR")
    nanogcg.gcg.tqdm = iter
    Paused(model, tokenizer, config).run("{optim_str}" + search["after"], search["answer"])


if __name__ == "__main__":
    main()
