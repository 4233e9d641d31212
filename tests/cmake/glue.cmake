set(glue_unit_tests
    glue_region_check_refuses_every_corruption
    glue_region_is_sealed_and_mapped_by_rights
    glue_servers_greet_and_listen_without_blocking
    glue_link_opens_through_a_local_socket
    glue_extents_have_one_owner
    glue_link_wait_loses_no_wakeup
    glue_clock_steps_end_no_wait
    glue_numbers_are_read_whole
    glue_sysfs_link_shares_channels_between_processes)
set(glue_link_opens_through_a_local_socket_extra glue_fake_mediator.c)
set(glue_link_wait_loses_no_wakeup_extra glue_fake_mediator.c)
set(glue_clock_steps_end_no_wait_extra glue_fake_mediator.c)
foreach(test ${glue_unit_tests})
  set(sources ${CMAKE_CURRENT_SOURCE_DIR}/unit/${test}.c)
  foreach(extra ${${test}_extra})
    list(APPEND sources ${CMAKE_CURRENT_SOURCE_DIR}/unit/${extra})
  endforeach()
  ivg_add_test(${test} SOURCES ${sources} LIBS ivg_glue LABELS unit glue)
  if(TARGET ${test})
    # Internal headers: states are poked and places chosen that the public interface does not offer.
    target_include_directories(${test} PRIVATE ${CMAKE_SOURCE_DIR}/ivshmem-glue/src)
  endif()
endforeach()
if(TARGET glue_clock_steps_end_no_wait)
  target_link_options(glue_clock_steps_end_no_wait PRIVATE -Wl,--wrap=clock_gettime)
endif()

# The check of a region page once more, with every fetch of a shared word handed to the test.
ivg_add_test(glue_region_check_fetches_each_word_once
             SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/glue_region_check_fetches_each_word_once.c
                     ${CMAKE_SOURCE_DIR}/ivshmem-glue/src/region_check.c
             LIBS ivg_glue LABELS unit glue)
if(TARGET glue_region_check_fetches_each_word_once)
  target_compile_definitions(glue_region_check_fetches_each_word_once PRIVATE IVG_LOAD_HOOK)
  target_include_directories(glue_region_check_fetches_each_word_once PRIVATE ${CMAKE_SOURCE_DIR}/ivshmem-glue/src)
endif()

# Each public header alone, from C and, where there is a compiler for it, from C++.
if(BUILD_TESTING)
  set(glue_headers region_layout region link server)
  set(glue_languages c)
  include(CheckLanguage)
  check_language(CXX)
  if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
    list(APPEND glue_languages cc)
  endif()
  foreach(header ${glue_headers})
    foreach(language ${glue_languages})
      set(alone ${CMAKE_CURRENT_BINARY_DIR}/header_${header}_alone.${language})
      file(CONFIGURE OUTPUT ${alone} CONTENT "#include \"ivgpu/${header}.h\"\n")
      list(APPEND glue_header_sources ${alone})
    endforeach()
  endforeach()
  add_library(glue_headers_compile_alone OBJECT ${glue_header_sources})
  target_link_libraries(glue_headers_compile_alone PRIVATE ivg_glue)
endif()
