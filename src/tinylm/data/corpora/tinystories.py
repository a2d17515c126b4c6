"""The TinyStories dataset of the Hugging Face Hub, streamed.

Eldan and Li 2023, "TinyStories: How Small Can Language Models Be and Still Speak Coherent
English?" (arXiv:2305.07759): about 2.1 million training and 22,000 validation stories, written by
GPT-3.5 and GPT-4, under CDLA-Sharing-1.0. The revision is pinned, so that a name and a number of
stories mean the same text for everybody. Streaming stores nothing on disk; every pass downloads
what it reads again (about 1 GB of parquet for the whole training split), hence the token files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tinylm.config import DataConfig
from tinylm.errors import DataError
from tinylm.fingerprints import fingerprint_of

DATASET = "roneneldan/TinyStories"
REVISION = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
"""The dataset repository's commit of 12 August 2024."""
TEXT_FIELD = "text"


class TinyStoriesCorpus:
    """Stories of the dataset's own ``train`` and ``validation`` splits.

    Args:
        config: only ``train_stories`` and ``validation_stories`` matter here.
        dataset: a dataset of the Hub in the same form, or a local folder of its parquet files.
        revision: commit, tag or branch of the dataset; without effect on a local folder.
    """

    def __init__(
        self, config: DataConfig, dataset: str = DATASET, revision: str | None = REVISION
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._revision = revision

    def train(self) -> Iterator[str]:
        """Yield the first ``train_stories`` stories of the training split, or all.

        Raises:
            DataError: if the Hub cannot be reached, or the dataset has another form.
        """
        return self._stories("train", self._config.train_stories)

    def validation(self) -> Iterator[str]:
        """Yield the first ``validation_stories`` stories of the validation split, or all.

        Raises:
            DataError: if the Hub cannot be reached, or the dataset has another form.
        """
        return self._stories("validation", self._config.validation_stories)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of dataset, revision and caps; reads nothing."""
        content = [
            self._dataset,
            self._revision,
            self._config.train_stories,
            self._config.validation_stories,
        ]
        return fingerprint_of(content)

    def describe(self) -> str:
        """Say in one sentence which stories these are and where they come from."""
        revision = f", revision {self._revision[:12]}" if self._revision else ""
        return (
            f"{_amount(self._config.train_stories)} training stories and "
            f"{_amount(self._config.validation_stories)} validation stories of the dataset "
            f"{self._dataset} on the Hugging Face Hub{revision} (Eldan and Li 2023), by the "
            "dataset's own splits, which are not searched for stories that occur in both."
        )

    def _stories(self, split: str, most: int | None) -> Iterator[str]:
        count = 0
        for story in itertools.islice(self._texts(split), most):
            count += 1
            yield story
        if not count:
            raise DataError(f"{self._dataset}: the {split} split holds no stories: give another")

    def _texts(self, split: str) -> Iterator[str]:
        # Importing it takes about a second, which a run on other text does not need.
        import datasets

        try:
            rows = datasets.load_dataset(
                self._dataset, split=split, streaming=True, revision=self._revision
            )
            for number, row in enumerate(rows, 1):
                text = self._text(row, split, number).strip()
                if text:
                    yield text
        except _network_errors() as error:
            raise self._unreachable(error) from error
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            raise DataError(
                f"{self._dataset}: not a dataset with a {split} split ({_one_line(error)}): "
                "give one in the form of TinyStories"
            ) from error

    def _text(self, row: dict[str, Any], split: str, number: int) -> str:
        text = row.get(TEXT_FIELD)
        if not isinstance(text, str):
            raise DataError(
                f"{self._dataset}, {split} row {number}: no text in field {TEXT_FIELD!r} among "
                f"{', '.join(map(repr, row))}: give a dataset in the form of TinyStories"
            )
        return text

    def _unreachable(self, error: BaseException) -> DataError:
        return DataError(
            f"{self._dataset}: the Hugging Face Hub cannot be reached ({_one_line(error)}): "
            "`--data PATH` (corpus files) and corpus stories work offline"
        )


def _network_errors() -> tuple[type[BaseException], ...]:
    """Return what a failed download raises.

    The Hub's client derives its own error from that of the HTTP library that it happens to use
    (requests, httpx, httpx2 by version), whose errors are not all an ``OSError``.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _amount(most: int | None) -> str:
    return "all" if most is None else f"the first {most:,}"
