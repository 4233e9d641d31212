# ivg_add_test(NAME SOURCES file... [LIBS target...] [LABELS label...] [TIMEOUT seconds]): one cmocka program, one ctest entry.
find_path(IVG_CMOCKA_INCLUDE cmocka.h)
find_library(IVG_CMOCKA_LIBRARY cmocka)

function(ivg_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;LABELS;ARGS" ${ARGN})
  if(NOT BUILD_TESTING)
    return()
  endif()
  if(NOT IVG_CMOCKA_LIBRARY)
    message(FATAL_ERROR "cmocka not found (package libcmocka-dev; tools/setup installs it)")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_include_directories(${name} PRIVATE ${IVG_CMOCKA_INCLUDE})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} ${IVG_CMOCKA_LIBRARY} Threads::Threads)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}" SKIP_RETURN_CODE 77)
endfunction()

# A test that boots a guest: one at a time, skipped with words where QEMU or a kernel is missing. First of all, since
# together they take as long as all others, which then run beside them.
function(ivg_test_boots_guest name)
  set_tests_properties(${name} PROPERTIES TIMEOUT 500 LABELS "vm;${ARGN}" SKIP_RETURN_CODE 77 RESOURCE_LOCK vm
                       COST 1000)
endfunction()
