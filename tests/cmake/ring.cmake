set(ring_unit_tests
    ring_consumer_refuses_broken_records
    ring_records_arrive_whole_and_in_order
    ring_producer_tells_failures_apart
    ring_answers_and_wakes_reach_the_right_thread
    ring_answers_in_slots
    ring_rest_searches_within_bounds
    ring_recovers_from_dead_producers)
foreach(test ${ring_unit_tests})
  ivg_add_test(${test} SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/${test}.c LIBS ivg_ring LABELS unit ring)
endforeach()

# The consumer once more, with every fetch of a shared word handed to the test.
ivg_add_test(ring_consumer_fetches_each_word_once
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/ring_consumer_fetches_each_word_once.c
                     ${CMAKE_SOURCE_DIR}/ring/src/ring_attach.c ${CMAKE_SOURCE_DIR}/ring/src/ring_consumer.c
                     ${CMAKE_SOURCE_DIR}/ring/src/ring_producer.c
             LABELS unit ring)
if(TARGET ring_consumer_fetches_each_word_once)
  target_compile_definitions(ring_consumer_fetches_each_word_once PRIVATE IVG_LOAD_HOOK)
  target_include_directories(ring_consumer_fetches_each_word_once
                             PRIVATE $<TARGET_PROPERTY:ivg_ring,INTERFACE_INCLUDE_DIRECTORIES>)
endif()

ivg_add_test(ring_threads SOURCES ${CMAKE_SOURCE_DIR}/tests/stress/ring_threads.c LIBS ivg_ring LABELS stress ring)
# With every point at which a producer may die handed to the test. For long: build/release/tests/ring_killed 10000
ivg_add_test(ring_killed
             SOURCES ${CMAKE_SOURCE_DIR}/tests/stress/ring_killed.c
                     ${CMAKE_SOURCE_DIR}/ring/src/ring_attach.c ${CMAKE_SOURCE_DIR}/ring/src/ring_consumer.c
                     ${CMAKE_SOURCE_DIR}/ring/src/ring_producer.c ${CMAKE_SOURCE_DIR}/ring/src/ring_recover.c
             LABELS stress ring)
if(TARGET ring_killed)
  target_compile_definitions(ring_killed PRIVATE IVG_POINT_HOOK)
  target_include_directories(ring_killed PRIVATE $<TARGET_PROPERTY:ivg_ring,INTERFACE_INCLUDE_DIRECTORIES>)
endif()
ivg_add_test(ring_full_for_long SOURCES ${CMAKE_SOURCE_DIR}/tests/stress/ring_full_for_long.c LIBS ivg_ring LABELS stress ring)
ivg_add_test(ring_consumer_killed SOURCES ${CMAKE_SOURCE_DIR}/tests/stress/ring_consumer_killed.c LIBS ivg_ring LABELS stress ring)
ivg_add_test(ring_processes SOURCES ${CMAKE_SOURCE_DIR}/tests/stress/ring_processes.c LIBS ivg_ring LABELS stress ring)

# Headers alone, from C always, from C++ where there is a compiler for it.
if(BUILD_TESTING)
  foreach(header atomics ring_layout ring)
    set(alone ${CMAKE_CURRENT_BINARY_DIR}/header_${header}_alone.c)
    file(CONFIGURE OUTPUT ${alone} CONTENT "#include \"ivgpu/${header}.h\"\n")
    list(APPEND ring_header_sources ${alone})
  endforeach()
  add_library(ring_headers_c OBJECT ${ring_header_sources})
  target_link_libraries(ring_headers_c PRIVATE ivg_ring)

  include(CheckLanguage)
  check_language(CXX)
  if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
    set(ring_header_sources_cxx)
    foreach(header atomics ring_layout ring)
      set(alone ${CMAKE_CURRENT_BINARY_DIR}/header_${header}_alone.cc)
      file(CONFIGURE OUTPUT ${alone} CONTENT "#include \"ivgpu/${header}.h\"\n")
      list(APPEND ring_header_sources_cxx ${alone})
    endforeach()
    ivg_add_test(ring_headers_compile_alone
                 SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/ring_headers_compile_alone.c
                         ${CMAKE_SOURCE_DIR}/tests/unit/ring_headers_cxx.cc ${ring_header_sources_cxx}
                 LIBS ivg_ring LABELS unit ring)
    set_target_properties(ring_headers_compile_alone PROPERTIES CXX_STANDARD 11 CXX_STANDARD_REQUIRED ON)
  else()
    message(STATUS "no C++ compiler: ring's headers are not tested from C++")
  endif()
endif()
