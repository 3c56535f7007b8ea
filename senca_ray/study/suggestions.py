"""Optuna's part of a search: what is suggested next, kept in a file that outlives the driver.

The file is a log: a suggestion is written in one transaction when it is asked for, and once more when it is
told. Sampling works on a copy in memory, with a sampler made anew for every suggestion, so what is suggested
follows from the seed and from what was told before it, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senca_ray.errors import SencaError
from senca_ray.keys import COMPLETE, FAILED, RACED
from senca_ray.study.objective import Direction

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage, RDBStorage

RANDOM = 10
"""Suggestions told before Optuna's sampler begins to learn; until then it draws at random."""

_BUSY_SECONDS = 60
"""How long to wait for another program that reads the file, such as optuna-dashboard."""


def open_storage(path: Path) -> RDBStorage:
    """Open the SQLite file of a search, or make it; raises SencaError where it is something else."""
    import optuna
    from sqlalchemy import URL
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = URL.create("sqlite", database=str(path.resolve())).render_as_string()
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}})
    except (optuna.exceptions.OptunaError, SQLAlchemyError, RuntimeError) as error:
        raise SencaError(
            f"{path}: cannot be opened as an Optuna storage ({str(error).splitlines()[0]}); "
            "move it away, and the search is made again from the results"
        ) from None


class SuggestionLog:
    """The suggestions of one fold, numbered from 0, which is always the default."""

    def __init__(
        self,
        storage: RDBStorage,
        name: str,
        directions: Sequence[Direction],
        space: Mapping[str, BaseDistribution],
        default: Mapping[str, Any],
        seed: int,
    ) -> None:
        """`name` is the Optuna study's; `default` the first suggestion's values.

        Raises SencaError when the storage holds a study of this name over another space.
        """
        import optuna

        self._space, self._default, self._seed = dict(space), dict(default), seed
        self._file, self._memory = storage, optuna.storages.InMemoryStorage()
        study = optuna.create_study(
            storage=storage, study_name=name, directions=list(directions), load_if_exists=True
        )
        self._stored = study.get_trials(deepcopy=False)
        same = [d.name.lower() for d in study.directions] == list(directions)
        if not same or any(t.distributions != self._space for t in self._stored):
            raise SencaError(
                f"{name}: the Optuna storage holds a study over another space or with other objectives; "
                "give another --out, or remove the storage to make the search again from the results"
            )
        self._study = optuna.create_study(storage=self._memory, study_name=name, directions=list(directions))
        # Written through the storages: a Study would read back what it writes, which takes twice as long.
        self._in_file = storage.get_study_id_from_name(name)
        self._in_memory = self._memory.get_study_id_from_name(name)

    def ask(self, number: int, label_of: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
        """Parameters of suggestion `number`; every earlier one has been asked for.

        `label_of` gives the name of a suggestion with these parameters, which the file keeps for readers.
        """
        from optuna.trial import TrialState, create_trial

        stored = number < len(self._stored)
        parameters = dict(self._stored[number].params) if stored else self._sample(number)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=parameters,
            distributions=self._space,
            user_attrs={"label": label_of(parameters)},
        )
        if stored:
            self._memory.create_new_trial(self._in_memory, trial)
        else:
            self._file.create_new_trial(self._in_file, trial)
        return parameters

    def _sample(self, number: int) -> dict[str, Any]:
        from optuna.samplers import TPESampler

        if number == 0:
            self._study.enqueue_trial(self._default)
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        self._study.sampler = TPESampler(n_startup_trials=RANDOM, seed=seed)
        return dict(self._study.ask(self._space).params)

    def tell(self, number: int, state: str, values: Sequence[float] | None, patients: int) -> None:
        """Tell how a suggestion ended; suggestions are told in the order of their numbers.

        `values` are the objectives' over the `patients` that were scored, None where it failed.
        """
        _tell(self._memory, self._in_memory, number, state, values, patients)
        if number >= len(self._stored) or not self._stored[number].state.is_finished():
            _tell(self._file, self._in_file, number, state, values, patients)


def _tell(
    storage: BaseStorage, study: int, number: int, state: str, values: Sequence[float] | None, patients: int
) -> None:
    from optuna.trial import TrialState

    trial = storage.get_trial_id_from_study_id_trial_number(study, number)
    if state == RACED and values is not None:
        # What Optuna's sampler goes by for a pruned trial: its last value, and after how many steps.
        storage.set_trial_intermediate_value(trial, patients, values[0])
    words = {COMPLETE: TrialState.COMPLETE, RACED: TrialState.PRUNED, FAILED: TrialState.FAIL}
    storage.set_trial_state_values(trial, words[state], values)
