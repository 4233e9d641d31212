ivg_add_test(ivgpud_config_names_every_mistake
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/ivgpud_config_names_every_mistake.c
             LIBS ivg_mediator LABELS unit ivgpud)
if(TARGET ivgpud_config_names_every_mistake)
  target_compile_definitions(ivgpud_config_names_every_mistake
                             PRIVATE EXAMPLE_CONFIG="${CMAKE_SOURCE_DIR}/hostexec/ivgpud/ivgpud.conf.example")
endif()

if(BUILD_TESTING)
  add_executable(board_words ${CMAKE_SOURCE_DIR}/tests/integration/board_words.c)
  set_target_properties(board_words PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(board_words PRIVATE ivg_mediator)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  foreach(test ivgpuctl_shows_and_changes ivgpud_follows_its_configuration ivgpud_keeps_channels_and_executors_in_step
          ivgpud_keeps_executors_warm ivgpud_logs_to_the_journal ivgpud_quarantines ivgpud_runs_mps ivgpud_serves_its_manager ivgpud_shares_inside_a_machine_only ivgpud_watches_time
          idle_programs_wake_nobody ivgpu_run_is_transparent metrics_are_served programs_are_told_why_they_end vram_is_capped)
    add_test(NAME ${test} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/${test}.py)
    set_tests_properties(${test} PROPERTIES TIMEOUT 300 LABELS "integration;ivgpud"
                         ENVIRONMENT "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  endforeach()
  # These run CUDA programs on the soft GPU.
  set_tests_properties(idle_programs_wake_nobody metrics_are_served programs_are_told_why_they_end vram_is_capped
                       PROPERTIES LABELS "integration;ivgpud;cuda")
endif()

# Drivers that can be and that cannot, each a library of its own.
if(BUILD_TESTING)
  set(fake_drivers ${CMAKE_BINARY_DIR}/tests/fake_drivers)
  foreach(kind RANGE 0 3)
    add_library(fake_driver_${kind} MODULE ${CMAKE_SOURCE_DIR}/tests/unit/ivgpud_fake_driver.c)
    target_compile_definitions(fake_driver_${kind} PRIVATE FAKE_DRIVER=${kind})
    set_target_properties(fake_driver_${kind} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${fake_drivers})
    list(APPEND fake_driver_targets fake_driver_${kind})
  endforeach()
  ivg_add_test(ivgpud_finds_only_drivers_that_can_be
               SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/ivgpud_finds_only_drivers_that_can_be.c
               LIBS ivg_mediator LABELS unit ivgpud)
  target_compile_definitions(ivgpud_finds_only_drivers_that_can_be PRIVATE FAKE_DRIVERS="${fake_drivers}")
  add_dependencies(ivgpud_finds_only_drivers_that_can_be ${fake_driver_targets})
  if(TARGET ivg_libcuda)
    target_compile_definitions(ivgpud_finds_only_drivers_that_can_be PRIVATE SHIM_PATH="$<TARGET_FILE:ivg_libcuda>")
    add_dependencies(ivgpud_finds_only_drivers_that_can_be ivg_libcuda)
  endif()
endif()
