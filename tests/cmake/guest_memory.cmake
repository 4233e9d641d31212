# The guest's memory and modules: pieces that need neither ring nor executor.
set(guest_src ${CMAKE_SOURCE_DIR}/guest/src)

ivg_add_test(guest_image_length SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/guest_image_length.c ${guest_src}/image.c
             LABELS unit guest)

# Memory code over a host of the test's own, which is late and can fail.
set(guest_memory_sources ${CMAKE_SOURCE_DIR}/tests/unit/guest_fake_host.c)
foreach(source allocate arena_pool completion copy copy_api copy_buffer copy_bytes copy_helpers copy_pitched copy_pitched_api
                 copy_staged copy_work managed managed_advice memory_index paged pinned pointer rate_limited shadow
        staging)
  list(APPEND guest_memory_sources ${guest_src}/${source}.c)
endforeach()
set(guest_memory_tests guest_advice_agrees_with_a_model guest_memory_index_answers_beside_writers guest_arena_is_shared_out_whole
    guest_copies_arrive_whole guest_copies_are_shared_out)
foreach(test ${guest_memory_tests})
  ivg_add_test(${test} SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/${test}.c ${guest_memory_sources} LIBS ivg_calls ivg_glue
               LABELS unit guest)
endforeach()

foreach(test guest_image_length ${guest_memory_tests})
  if(TARGET ${test})
    target_include_directories(${test} PRIVATE ${guest_src})
  endif()
endforeach()
