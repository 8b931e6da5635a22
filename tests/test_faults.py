"""Faults found by reading and attacking the library, and the tests that hold each of them.

A fault is kept out by a test that was red while it was there. The table names them, so that
whoever moves or deletes one sees what it was for; this file checks that each still exists.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

FAULTS: dict[str, tuple[str, ...]] = {
    # ---- wrong numbers
    "a parameter named like something inside had a wrong gradient, or turned peepholes on": (
        "laws/test_specification.py::test_parameters_of_any_name",
        "laws/test_specification.py::test_numbers_that_were_wrong",
        "laws/test_cell.py::test_no_symbol_has_a_name_that_is_made_inside",
    ),
    "parameters called note, source or aliases were impossible": (
        "test_activation.py::test_parameters_of_any_name",
    ),
    "the specification shared the derivation that it judges": (
        "laws/test_specification.py::test_built_in_cells",
        "laws/test_specification.py::test_drawn_activations",
    ),
    "what an operator read back was another formula, or none": (
        "test_canonical.py::test_drawn_formulas",
        "test_canonical.py::test_what_evaluation_would_change",
        "laws/test_cell.py::test_every_activation_crosses_as_text",
        "laws/test_cell.py::test_drawn_formulas_cross_as_text",
        "test_parse.py::test_a_formula_reads_as_itself",
    ),
    "a bound was said to be proved and did not hold": (
        "laws/test_proofs.py::test_proved_bounds_hold",
        "laws/test_proofs.py::test_intervals_contain_every_value",
    ),
    "peaks of f'' and saturation were looked for near 0 only; means were off at kinks": (
        "laws/test_sheet.py::test_second_derivatives_without_bound",
        "laws/test_sheet.py::test_a_second_derivative_far_out",
        "laws/test_sheet.py::test_what_repeats_is_said_to",
        "laws/test_sheet.py::test_means",
    ),
    "a forget gate with negative values halved at the wrong rate": (
        "laws/test_sheet.py::test_a_negative_forget_gate",
    ),
    "dead units were those of another cell": (
        "test_measure.py::test_dead_units_and_saturation_are_those_of_the_cell_as_it_is",
    ),
    "two gradients shared memory": (
        "parity/test_parity_inplace.py::test_no_two_gradients_share_memory",
        "parity/test_parity_inplace.py::test_no_two_gradients_of_a_cell_share_memory",
        "parity/test_parity_inplace.py::test_no_two_gradients_with_a_graph_share_memory",
    ),
    # ---- drop-in
    "results could not be changed in place": (
        "parity/test_parity_inplace.py::test_what_torchs_results_accept_ours_accept",
        "parity/test_parity_inplace.py::test_an_output_may_be_changed_whatever_its_type",
    ),
    "parameters could not be swapped after a call": (
        "parity/test_parity_habits.py::test_parameters_that_are_swapped",
        "laws/test_cpu_threads.py::test_a_call_leaves_no_weak_reference_to_a_parameter",
    ),
    "initialisation code met parameters without dimensions": (
        "parity/test_parity_habits.py::test_loops_over_parameters",
    ),
    "a half module under autocast refused float32": (
        "parity/test_parity_habits.py::test_a_half_module_under_autocast_takes_float32",
    ),
    "code that asks for nn.LSTM passed over the module in silence": (
        "parity/test_parity_habits.py::test_isinstance_that_passes_over_says_so_once",
    ),
    "cases of public reports": ("test_reports.py::test_a_report",),
    # ---- threads, caches, memory
    "first calls in several threads raced": (
        "laws/test_cpu_threads.py::test_first_calls_of_one_module_in_six_threads",
        "laws/test_cpu_threads.py::test_a_formula_nobody_has_compiled_in_six_threads",
        "laws/test_cpu_threads.py::test_entries_are_whole_when_others_see_them",
    ),
    "the OpenMP library found was that of the package imported first": (
        "laws/test_cpu_threads.py::test_threads_are_torchs_whatever_was_imported_first",
    ),
    "the key of the machine code left out what the code depends on": (
        "laws/test_cpu.py::test_the_key_knows_formula_numbers_dtype_and_source",
        "laws/test_cpu_cache.py::test_the_key_holds_every_source_that_the_compiler_can_reach",
    ),
    "mpmath's precision leaked between threads": (
        "test_threads_of_formulas.py::test_precision_does_not_leak_between_threads",
    ),
    "trials in the caller's process left one torch thread and another seed": (
        "test_workers.py::test_trials_in_this_process_leave_its_threads_and_random_numbers",
    ),
    "a child after a fork hung": (
        "laws/test_cpu_threads.py::test_a_child_forked_after_a_call_computes",
        "laws/test_cpu_threads.py::test_a_child_computes_where_torch_alone_had_a_team",
    ),
    "every compiled formula kept 0.28 MB of LLVM's passes for ever": (
        "laws/test_cpu_cache.py::test_compiling_keeps_no_memory",
    ),
    "a write through NumPy was not seen (the next single step on large weights still misses it)": (
        "laws/test_cpu_threads.py::test_a_write_through_numpy_is_seen_by_the_next_sequence",
        "laws/test_cpu_threads.py::test_the_one_write_that_a_single_step_does_not_see",
    ),
    # ---- text from strangers
    "texts took seconds, minutes or gigabytes": (
        "test_fuzz.py::test_any_text",
        "test_fuzz.py::test_texts_that_were_found",
        "test_parse.py::test_hostile_text",
        "test_parse.py::test_functions_that_double_their_argument",
        "test_exact.py::test_roots_are_bounded",
        "test_exact.py::test_a_number_of_many_operations_is_refused",
    ),
    "a parameter without a value was no FormulaError": (
        "test_activation.py::test_parameters_without_a_value_are_refused",
        "test_activation.py::test_values_of_a_parameter_without_a_value",
    ),
    "property sheets took a minute": (
        "laws/test_sheet.py::test_nested_kinks_take_bounded_work",
        "laws/test_sheet.py::test_a_large_formula_takes_seconds",
    ),
    "engines differed at infinity, NaN and constants beyond float32": (
        "laws/test_special_values.py::test_one_argument",
        "laws/test_special_values.py::test_two_arguments",
        "laws/test_special_values.py::test_a_divergence_shows",
        "laws/test_special_values.py::test_constants_beyond_float32",
    ),
    "a small file filled the memory": (
        "test_data_memory.py::test_sizes_are_checked_before_anything_is_allocated",
        "test_data_memory.py::test_toml_that_does_not_fit_is_one_sentence",
        "test_data_files.py::test_what_is_too_large_is_refused_before_it_is_read",
    ),
    # ---- a stranger's study folder, and the cache
    "fields of a study's files ended the process": (
        "test_study_folder.py::test_what_does_not_fit_is_one_sentence_with_file_and_field",
        "test_study_folder.py::test_changed_folders_end_with_a_sentence_or_a_report",
        "test_study_folder.py::test_a_formula_of_two_lines_simply_works",
        "test_study_folder.py::test_a_formula_that_takes_too_long_costs_its_picture_only",
    ),
    "a folder wrote outside itself": (
        "test_study_folder.py::test_a_grid_names_folders_of_its_own_only",
        "test_study_folder.py::test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed",
        "test_study_folder.py::test_a_folder_that_is_a_link_out_of_the_results_is_refused",
        "test_study_folder.py::test_every_file_of_the_lab_is_written_by_one_function",
    ),
    "escape sequences reached the terminal": (
        "test_study_folder.py::test_no_escape_sequence_reaches_the_terminal",
    ),
    "the cache took another formula's code, or a stranger's": (
        "laws/test_cpu_cache.py::test_what_was_not_written_here_is_not_read",
        "laws/test_cpu_cache.py::test_a_file_of_another_user_with_another_secret_is_not_read",
        "laws/test_cpu_cache.py::test_what_killed_processes_left_is_removed_and_nothing_else",
        "laws/test_cpu_cache.py::test_a_full_disk_leaves_nothing",
        "laws/test_cpu_cache.py::test_without_a_place_for_the_secret_there_is_no_cache",
    ),
    "workers outlived their study": (
        "test_workers.py::test_workers_end_with_their_study_and_it_goes_on",
    ),
    "record kept hooks, merged calls and mixed threads": (
        "laws/test_record.py::test_after_a_call_that_failed",
        "laws/test_record.py::test_copies_made_meanwhile_have_no_hooks",
        "laws/test_record.py::test_threads_are_in_calls_of_their_own",
    ),
    # ---- faults of telling
    "the page of claims hid divergences": (
        "test_studies_judge.py::test_divergences_stand_in_every_line_of_the_verdicts",
        "test_studies_judge.py::"
        "test_a_diverged_run_counts_as_the_worst_even_if_it_had_reached_the_level",
    ),
    "a cost was told that one disturbed clock had made": (
        "test_verdict.py::test_no_cost_is_told_where_a_clock_was_disturbed",
    ),
    "the arriving gradient was two figures": (
        "test_report_inside.py::test_what_arrives_is_one_figure_in_all_sections",
    ),
    "an activation could not be called on a tensor": (
        "test_activation.py::test_calling_on_a_tensor",
        "test_activation.py::test_calling_on_numbers_and_arrays",
    ),
    "swap, quantize_dynamic and a second run into one folder said nothing": (
        "test_swap.py::test_the_summary_tells_of_other_recurrent_modules",
        "parity/test_parity_habits.py::test_quantize_dynamic_leaves_it_and_says_so",
        "test_workers.py::test_a_second_run_into_the_folder_is_refused_and_names_the_first",
    ),
}
"""Each fault in words, with the tests that were red while it was there."""


@lru_cache(maxsize=64)
def _tests_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_holds_a_fault_is_there(fault: str) -> None:
    named = [test.split("::") for test in FAULTS[fault]]
    assert named
    assert [name for file, name in named if name not in _tests_of(file)] == []
