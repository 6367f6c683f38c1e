"""The guards against faults: each with a change that takes it away, and the test that must fail then."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """One guard.

    Attributes:
        name: what it does.
        file: where it stands.
        old: text of the file, once there.
        new: what takes its place.
        test: file::test that fails without the guard.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


_CHECKPOINT, _CHECKS = "tests/hw_base/test_checkpoint.py", "tests/hw_base/files/test_checkpoint_checks.py"
_STORAGE, _FOLDER = "tests/hw_base/test_storage.py", "tests/hw_base/runs/test_folder.py"
_GOOD, _RESUME = "tests/hw_base/training/test_last_good.py", "tests/hw_base/training/test_resume.py"
_GUARD, _SEVERAL = "tests/hw_base/training/test_monitor_and_guard.py", "tests/parity/test_several_processes.py"
_WRITERS, _ARCHIVES = "tests/hw_base/writers/test_writers.py", "tests/hw_base/files/test_archives.py"

GUARDS = [
    Guard(
        "files are flushed before they take their name",
        "hw_base/storage.py",
        "        _sync(scratch)\n",
        "        pass\n",
        f"{_STORAGE}::test_the_file_is_flushed_before_it_replaces_and_the_folder_after",
    ),
    Guard(
        "what was half written is removed",
        "hw_base/storage.py",
        "            scratch.unlink(missing_ok=True)\n",
        "            pass\n",
        f"{_STORAGE}::test_a_failed_write_leaves_the_old_file_and_nothing_beside_it",
    ),
    Guard(
        "a checkpoint's content is compared with its checksum",
        "hw_base/checkpoint.py",
        'digest != comment[len(_MARK) :].decode("ascii", "replace")',
        "False",
        f"{_CHECKPOINT}::test_every_flipped_bit_is_found",
    ),
    Guard(
        "the length of the checksum is checked",
        "hw_base/checkpoint.py",
        "length != _LENGTH or ",
        "",
        f"{_CHECKPOINT}::test_the_length_of_the_checksum_is_checked_too",
    ),
    Guard(
        "a damaged newest checkpoint is passed over",
        "hw_base/checkpoint.py",
        "            verify(path)\n        except",
        "            path.stat()\n        except",
        f"{_CHECKPOINT}::test_best_prune_sweep_and_set_aside",
    ),
    Guard(
        "nothing of a checkpoint is executed",
        "hw_base/checkpoint.py",
        'map_location="cpu", weights_only=True',
        'map_location="cpu", weights_only=False',
        f"{_CHECKPOINT}::test_a_hostile_pickle_is_refused_and_not_run",
    ),
    Guard(
        "compressed records are refused",
        "hw_base/files/checkpoint_checks.py",
        "r.compress_type != zipfile.ZIP_STORED for r in records",
        "False for r in records",
        f"{_CHECKPOINT}::test_a_small_file_cannot_become_a_huge_tensor",
    ),
    Guard(
        "tensors larger than what is stored of them are refused",
        "hw_base/files/checkpoint_checks.py",
        "    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():\n",
        "    if False:\n",
        f"{_CHECKPOINT}::test_a_small_file_cannot_become_a_huge_tensor",
    ),
    Guard(
        "containers without end are refused",
        "hw_base/files/checkpoint_checks.py",
        "        if depth > MAX_DEPTH or seen > MAX_VALUES:\n",
        "        if seen > 5_000_000:\n",
        f"{_CHECKS}::test_containers_without_end_are_refused",
    ),
    Guard(
        "every part of a run's state is checked",
        "hw_base/files/checkpoint_checks.py",
        "        _State.model_validate(dict(state))\n",
        "        pass\n",
        f"{_CHECKS}::test_malformed_states_are_one_line_or_harmless",
    ),
    Guard(
        "temporary files of a killed run are swept",
        "hw_base/runs/folder.py",
        "        checkpoint.sweep(path)\n",
        "",
        f"{_FOLDER}::test_auto_begins_again_after_a_kill_before_the_first_checkpoint",
    ),
    Guard(
        "children of a killed run do not hold its lock",
        "hw_base/runs/folder.py",
        "os.register_at_fork(after_in_child=_close_locks)\n",
        "",
        f"{_FOLDER}::test_the_children_of_a_killed_run_do_not_hold_its_folder",
    ),
    Guard(
        "an older checkpoint does not rewind a run",
        "hw_base/runs/folder.py",
        "    if checkpoint.step_of(newest) > step:\n",
        "    if False:\n",
        f"{_FOLDER}::test_an_older_checkpoint_does_not_rewind_the_run_in_its_own_folder",
    ),
    Guard(
        "the best checkpoint and the monitor agree after a kill",
        "hw_base/training/state.py",
        "        if problem is not None:\n            log.warning(\"%s; the next evaluation",
        "        if False:\n            log.warning(\"%s; the next evaluation",
        f"{_RESUME}::test_a_best_checkpoint_that_is_gone_is_not_claimed",
    ),
    Guard(
        "older checkpoints are deleted after a kill before their deletion",
        "hw_base/training/state.py",
        "        if distributed.is_main():\n            self._prune(folder)\n",
        "",
        f"{_RESUME}::test_checkpoints_that_a_killed_process_had_yet_to_delete_are_deleted_on_resuming",
    ),
    Guard(
        "weights that are not finite are never written",
        "hw_base/training/state.py",
        "problem = self._not_finite(state) or self._write(state, best)",
        "problem = self._write(state, best)",
        f"{_GOOD}::test_weights_that_are_not_finite_are_never_written",
    ),
    Guard(
        "updates that are not finite are skipped",
        "hw_base/training/optimization.py",
        "            elif bool(taken):\n",
        "            else:\n",
        f"{_GOOD}::test_an_infinite_loss_with_finite_gradients_is_skipped",
    ),
    Guard(
        "running statistics of a skipped update are taken back",
        "hw_base/training/trainer.py",
        "            self.buffers.settle(torch.stack(outcomes).all())\n",
        "            pass\n",
        f"{_GOOD}::test_running_statistics_are_those_before_a_skipped_update",
    ),
    Guard(
        "many bad updates in a row end the run",
        "hw_base/training/guard.py",
        '        if in_row >= self.max_in_row:\n            raise DivergedError(f"{message}',
        '        if False:\n            raise DivergedError(f"{message}',
        f"{_GUARD}::test_the_first_bad_update_counts_once",
    ),
    Guard(
        "after a divergence the last good weights are saved",
        "hw_base/training/trainer.py",
        "            self.last_good.restore()\n",
        "",
        f"{_GOOD}::test_after_a_divergence_the_weights_are_the_last_with_a_finite_loss",
    ),
    Guard(
        "room on the disk is looked for before training",
        "hw_base/files/disk_space.py",
        "    if free < 2 * one:\n",
        "    if False:\n",
        f"{_RESUME}::test_a_disk_without_room_for_a_checkpoint_is_found_before_training",
    ),
    Guard(
        "half a line of a killed run is cut off",
        "hw_base/writers/jsonl.py",
        "        if self._size < len(content):\n            os.ftruncate(self._descriptor, self._size)\n",
        "",
        f"{_WRITERS}::test_half_a_line_of_a_killed_process_is_cut_off",
    ),
    Guard(
        "a tracker cannot end the program",
        "hw_base/writers/multi.py",
        'outcome.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))',
        "outcome.set_exception(error)",
        "tests/hw_base/writers/test_multi.py::test_a_tracker_that_ends_the_program_ends_only_itself",
    ),
    Guard(
        "a hanging worker is ended",
        "hw_base/data/reading.py",
        "            worker.kill()  #",
        "            pass  #",
        "tests/hw_base/data/test_reading.py::test_a_hanging_worker_is_named_and_ended",
    ),
    Guard(
        "members of archives stay inside",
        "hw_base/files/archives.py",
        'or ".." in parts ',
        "",
        f"{_ARCHIVES}::test_no_member_escapes",
    ),
    Guard(
        "archives are unpacked up to a quota",
        "hw_base/files/archives.py",
        "        if self.n_bytes > self.max_bytes:\n",
        "        if False:\n",
        f"{_ARCHIVES}::test_quota",
    ),
    Guard(
        "downloads are compared with their checksums",
        "hw_base/files/download.py",
        "        if found != wanted.lower():\n",
        "        if False:\n",
        "tests/hw_base/files/test_download.py::test_a_wrong_file_that_is_there_already_is_removed",
    ),
    Guard(
        "entries of the feature cache are compared with their checksums",
        "hw_tts/features/cache_files.py",
        " and zlib.crc32(body) == checksum",
        "",
        "tests/hw_tts/features/test_cache.py::test_a_damaged_entry_is_made_again",
    ),
    Guard(
        "processes agree on what they train",
        "hw_base/training/agreement.py",
        "        if (read or now != before) and bool(marks != mark * distributed.world_size()):\n",
        "        if False:\n",
        f"{_SEVERAL}::test_a_parameter_that_one_process_freezes_is_named_and_nobody_waits",
    ),
    Guard(
        "weights that drift apart are found",
        "hw_base/training/agreement.py",
        "    if names:\n",
        "    if False:\n",
        f"{_SEVERAL}::test_a_weight_that_drifts_is_named_at_the_next_evaluation",
    ),
    Guard(
        "a ratio of norms is that of all processes",
        "hw_tts/losses/vits2.py",
        "    if distributed.active() and made.requires_grad:  #",
        "    if False:  #",
        f"{_SEVERAL}::test_a_ratio_of_norms_and_its_gradient_are_those_of_one_process",
    ),
    Guard(
        "models that differ are found before anything is exchanged",
        "hw_base/training/agreement.py",
        '        _same("the models differ", distributed.gather(parts))\n',
        "",
        f"{_SEVERAL}::test_models_that_differ_are_named_before_anything_is_exchanged",
    ),
    Guard(
        "a checkpoint from elsewhere is what its checksum says",
        "hw_base/files/sources.py",
        "return fetch(address, path, sha256=sha256)",
        "return fetch(address, path)",
        "tests/hw_base/files/test_sources.py::test_another_file_than_the_checksum_says_is_not_kept",
    ),
    Guard(
        "a checkpoint comes by https",
        "hw_base/files/sources.py",
        "parts.hostname not in _OWN_MACHINE",
        "False",
        "tests/hw_base/files/test_sources.py::test_a_malformed_address_is_one_line",
    ),
    Guard(
        "what is published tells no home folder",
        "hw_base/publish.py",
        'without_home(state["config"])',
        'state["config"]',
        "tests/hw_base/test_publish.py::test_the_home_folder_is_not_told",
    ),
    Guard(
        "the unfinished trial of a sweep is tried again",
        "hw_base/sweep.py",
        "        study.enqueue_trial(trial.params, user_attrs={_FOLDER: _folder_of(trial)})",
        "        pass",
        "tests/hw_base/test_sweep.py::test_a_sweep_that_is_killed_resumes_its_unfinished_trial_with_the_same_values",
    ),
    Guard(
        "a process ends when its hours are over",
        "hw_base/training/interrupts.py",
        "time.monotonic() >= self._deadline",
        "False",
        f"{_FOLDER}::test_a_run_whose_hours_are_over_saves_and_is_resumed_to_the_same_weights",
    ),
]  # fmt: skip
