# Tests that boot a guest: one at a time (RESOURCE_LOCK), skipped with words where QEMU or a kernel is missing.
function(ivg_add_vm_test name timeout)
  add_test(NAME vm_${name} COMMAND ${CMAKE_SOURCE_DIR}/tests/vm/${name}.bash ${CMAKE_BINARY_DIR})
  set_tests_properties(vm_${name} PROPERTIES TIMEOUT ${timeout} LABELS "vm" SKIP_RETURN_CODE 77 RESOURCE_LOCK vm)
endfunction()

if(BUILD_TESTING)
  foreach(half host guest)
    add_executable(vm_attach_${half} ${CMAKE_SOURCE_DIR}/tests/vm/attach_${half}.c)
    target_link_libraries(vm_attach_${half} PRIVATE ivg_glue)
    set_target_properties(vm_attach_${half} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  endforeach()
  ivg_add_vm_test(attach 90)
  # These need the whole path built: shim, executor, mediator, soft GPU and the programs of tests/cuda.
  # Not with sanitizers: emulated processors make them too slow for the tests' bounds.
  if(NOT IVG_SANITIZE)
    ivg_add_vm_test(programs 150)
    ivg_add_vm_test(reboot 150)
    ivg_add_vm_test(qemu_end 180)
    ivg_add_vm_test(mediator_absent 150)
  endif()
endif()
