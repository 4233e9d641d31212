# The shim's own parts, and the whole of it against a host that a test plays.
if(NOT TARGET ivg_libcuda_objects)
  return()
endif()
set(guest_unit ${CMAKE_CURRENT_LIST_DIR}/../unit)

foreach(test guest_md2_matches_its_standard guest_objects_check_any_pointer guest_context_storage_is_read_while_written)
  ivg_add_test(${test} SOURCES ${guest_unit}/${test}.c $<TARGET_OBJECTS:ivg_libcuda_objects>
               LIBS ivg_calls ivg_digest ivg_glue ivg_ring LABELS unit guest)
  if(TARGET ${test})
    target_include_directories(${test} PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../guest/src)
  endif()
endforeach()

foreach(test guest_calls_survive_their_host guest_contexts_live_and_end guest_export_tables_answer_as_measured
             guest_pending_is_told_truly guest_threads_find_what_others_published)
  ivg_add_test(${test} SOURCES ${guest_unit}/${test}.c ${guest_unit}/guest_played_host.c
                               $<TARGET_OBJECTS:ivg_libcuda_objects>
               LIBS ivg_calls ivg_digest ivg_glue ivg_ring LABELS unit guest)
  if(TARGET ${test})
    target_include_directories(${test} PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../../guest/src)
  endif()
endforeach()

# As programs do: by dlopen().
ivg_add_test(guest_symbols_answer_what_programs_ask
             SOURCES ${guest_unit}/guest_symbols_answer_what_programs_ask.c
             LIBS ivg_calls ${CMAKE_DL_LIBS} LABELS unit guest)
if(TARGET guest_symbols_answer_what_programs_ask)
  add_dependencies(guest_symbols_answer_what_programs_ask ivg_libcuda)
  target_compile_definitions(guest_symbols_answer_what_programs_ask PRIVATE
    TEST_LIBCUDA="$<TARGET_FILE:ivg_libcuda>" TEST_ASKS="${guest_unit}/data/proc_address_asks.txt")
endif()
