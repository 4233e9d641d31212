set(exec_unit_tests
    exec_chains_launch_what_plain_launches_would
    exec_handles_are_looked_up_with_their_kind
    exec_host_functions_wait_for_the_guest
    exec_images_contain_their_own_lengths
    exec_images_tell_whether_they_print
    exec_copies_stay_inside_the_guests_memory
    exec_lanes_keep_order_and_block_nobody
    exec_ranges_agree_with_a_model
    exec_refuses_broken_records
    exec_lets_kernels_dump_no_files
    exec_tells_deferred_errors_once
    exec_tells_its_mediator_that_it_wakes
    exec_tickets_are_whole
    exec_traces_what_ran
    exec_vram_table_outlives_its_holders)
if(BUILD_TESTING)
  add_library(exec_fixture OBJECT ${CMAKE_SOURCE_DIR}/tests/unit/exec_fixture.c
                                  ${CMAKE_SOURCE_DIR}/tests/unit/exec_fake_driver.c
                                  ${CMAKE_SOURCE_DIR}/tests/unit/exec_fake_graphs.c)
  target_include_directories(exec_fixture PRIVATE ${IVG_CMOCKA_INCLUDE})
  target_link_libraries(exec_fixture PRIVATE ivg_exec_core)
endif()
foreach(test ${exec_unit_tests})
  ivg_add_test(${test}
               SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/${test}.c
               LIBS exec_fixture ivg_exec_core LABELS unit exec)
endforeach()
if(TARGET exec_images_tell_whether_they_print)
  target_compile_definitions(exec_images_tell_whether_they_print
                             PRIVATE PRINTING_IMAGES="${CMAKE_SOURCE_DIR}/tests/unit/prints")
endif()

# The program itself, with a small driver library of the test's own.
if(BUILD_TESTING)
  add_library(exec_process_driver SHARED ${CMAKE_SOURCE_DIR}/tests/unit/exec_process_driver.c)
  target_link_libraries(exec_process_driver PRIVATE ivg_calls)
  set_target_properties(exec_process_driver PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  foreach(test exec_process_ends_when_told exec_warm_context_is_invisible)
    ivg_add_test(${test} SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/${test}.c ${CMAKE_SOURCE_DIR}/tests/unit/exec_process.c
                 LIBS ivg_calls ivg_glue ivg_ring LABELS unit exec)
    add_dependencies(${test} ivgpu-exec exec_process_driver)
    target_include_directories(${test} PRIVATE ${CMAKE_SOURCE_DIR}/hostexec/common)
    target_compile_definitions(${test} PRIVATE EXEC_PROGRAM="$<TARGET_FILE:ivgpu-exec>"
                                               EXEC_DRIVER="$<TARGET_FILE:exec_process_driver>")
  endforeach()
endif()

# Loads by name, with the keeper itself behind them.
ivg_add_test(exec_images_are_asked_for_by_name
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/exec_images_are_asked_for_by_name.c
             LIBS exec_fixture ivg_exec_core ivg_image_keeper LABELS unit exec images)

# The executor once more, with every fetch of a shared word handed to the test, which then changes the word.
# All of it is compiled again for that, and TSan would see what it sees in the tests above.
if(IVG_SANITIZE STREQUAL "thread")
  return()
endif()
get_target_property(exec_core_sources ivg_exec_core SOURCES)
list(TRANSFORM exec_core_sources PREPEND ${CMAKE_SOURCE_DIR}/hostexec/exec/ REGEX "^[^/]")
set_source_files_properties(${IVG_GENERATED_HOST_SOURCES} ${CMAKE_BINARY_DIR}/generated/call_samples.c PROPERTIES GENERATED TRUE)
file(GLOB hooked_ring_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/ring/src/*.c)
ivg_add_test(exec_fetches_each_record_word_once
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/exec_fetches_each_record_word_once.c
                     ${CMAKE_SOURCE_DIR}/tests/unit/exec_fixture.c ${CMAKE_SOURCE_DIR}/tests/unit/exec_fake_driver.c
                     ${exec_core_sources} ${hooked_ring_sources} ${CMAKE_BINARY_DIR}/generated/call_samples.c
             LABELS unit exec)
if(TARGET exec_fetches_each_record_word_once)
  add_dependencies(exec_fetches_each_record_word_once ivg_generate)
  target_compile_definitions(exec_fetches_each_record_word_once PRIVATE IVG_LOAD_HOOK)
  foreach(property INCLUDE_DIRECTORIES LINK_LIBRARIES)
    get_target_property(value ivg_exec_core INTERFACE_${property})
    if(property STREQUAL "INCLUDE_DIRECTORIES")
      target_include_directories(exec_fetches_each_record_word_once PRIVATE ${value})
    else()
      target_link_libraries(exec_fetches_each_record_word_once PRIVATE ${value})
    endif()
  endforeach()
endif()
