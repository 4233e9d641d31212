# Who may run when: the board, the policy, the executor's gate, and all of it together on the soft GPU.
ivg_add_test(board_is_one_executors
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/board_is_one_executors.c ${CMAKE_SOURCE_DIR}/hostexec/ivgpud/board.c
             LIBS ivg_exec_core ivg_sched LABELS unit sched)
target_include_directories(board_is_one_executors PRIVATE ${CMAKE_SOURCE_DIR}/hostexec/ivgpud)

# One thread: nothing that ThreadSanitizer could see, and it would look for minutes.
if(NOT IVG_SANITIZE STREQUAL "thread")
  ivg_add_test(sched_shares_hold SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/sched_shares_hold.c LIBS ivg_sched_sim LABELS unit sched)
endif()

if(BUILD_TESTING)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  # Alone: it measures, though the device's time only. Not with sanitizers, which slow the programs and not the device: what
  # these leave unused others get.
  if(NOT IVG_SANITIZE)
    add_test(NAME scheduler COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/scheduler.py)
    set_tests_properties(scheduler PROPERTIES TIMEOUT 300 RUN_SERIAL TRUE LABELS "integration;cuda;sched"
                         ENVIRONMENT "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  endif()
  add_test(NAME scheduler_holds_and_lets_go
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/scheduler_holds_and_lets_go.py)
  set_tests_properties(scheduler_holds_and_lets_go PROPERTIES TIMEOUT 300 LABELS "integration;cuda;sched"
                       ENVIRONMENT "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endif()
