# The guest driver: its layout here, the rest in a guest that has it.
ivg_add_test(kmod_layout_is_the_regions
  SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/kmod_layout_is_the_regions.c ${CMAKE_CURRENT_SOURCE_DIR}/unit/kmod_layout_driver.c
  LIBS ivg_glue LABELS unit kmod)
if(TARGET kmod_layout_is_the_regions)
  target_include_directories(kmod_layout_is_the_regions PRIVATE ${CMAKE_SOURCE_DIR}/guest/kmod)
endif()

# tools/demo boots the guest with it.
if(TARGET kmod AND TARGET demo_parts)
  add_dependencies(demo_parts kmod)
endif()

if(BUILD_TESTING)
  add_executable(kmod_guest ${CMAKE_CURRENT_SOURCE_DIR}/vm/kmod_guest.c)
  target_link_libraries(kmod_guest PRIVATE ivg_glue ivg_calls)
  target_include_directories(kmod_guest PRIVATE ${CMAKE_SOURCE_DIR}/guest/kmod)
  set_target_properties(kmod_guest PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endif()

if(BUILD_TESTING AND TARGET kmod AND NOT IVG_SANITIZE)
  add_test(NAME kmod_dkms COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/kmod/dkms.bash ${CMAKE_BINARY_DIR}/tests ${IVG_KERNEL})
  set_tests_properties(kmod_dkms PROPERTIES TIMEOUT 400 LABELS kmod SKIP_RETURN_CODE 77)
endif()

# One at a time, as vm.cmake's; with the whole path, so not with sanitizers. Skipped where there are no kernel headers.
if(BUILD_TESTING AND NOT IVG_SANITIZE)
  foreach(test isolation idle reboot unplug storm)
    add_test(NAME vm_kmod_${test} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vm/kmod_${test}.bash ${CMAKE_BINARY_DIR})
    ivg_test_boots_guest(vm_kmod_${test} kmod)
  endforeach()
  # The ways without the driver stay open, and tested.
  add_test(NAME vm_broker COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vm/broker.bash ${CMAKE_BINARY_DIR})
  ivg_test_boots_guest(vm_broker kmod)
  add_test(NAME vm_programs_without_driver COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vm/programs.bash ${CMAKE_BINARY_DIR})
  ivg_test_boots_guest(vm_programs_without_driver)
  set_tests_properties(vm_programs_without_driver PROPERTIES ENVIRONMENT IVGPU_TEST_DRIVER=none)
endif()
