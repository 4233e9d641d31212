# libFuzzer's targets, in the preset `fuzz` only. Each is a test too: its seeds, its corpus and a bounded number of executions,
# the same ones at each run (fixed seed). Long runs: tools/fuzz.
if(NOT IVG_FUZZ)
  return()
endif()
set(fuzz_dir ${CMAKE_CURRENT_SOURCE_DIR}/fuzz)
add_custom_target(fuzz)

# ivg_fuzz_target(NAME RUNS [SOURCES file...] [LIBS target...] [ARGS word...] [ENVIRONMENT words of ASAN_OPTIONS])
function(ivg_fuzz_target name runs)
  cmake_parse_arguments(ARG "" "ENVIRONMENT" "SOURCES;LIBS;ARGS" ${ARGN})
  add_executable(fuzz_${name} EXCLUDE_FROM_ALL ${fuzz_dir}/${name}.c ${ARG_SOURCES})
  set_target_properties(fuzz_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_LIBS} Threads::Threads)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz fuzz_${name})
  # What is new goes to the first folder, empty at the start: nothing into the source tree, and every run does the same.
  set(new ${CMAKE_BINARY_DIR}/fuzz/new/${name})
  add_test(NAME fuzz_${name}
           COMMAND sh -c "rm -rf '${new}' && mkdir -p '${new}' && exec \"$@\"" sh $<TARGET_FILE:fuzz_${name}> -runs=${runs} -seed=1 -timeout=20 -rss_limit_mb=2048 -verbosity=0
                                     -print_final_stats=1 -artifact_prefix=${CMAKE_BINARY_DIR}/fuzz/${name}- ${ARG_ARGS}
                                     ${new} ${CMAKE_BINARY_DIR}/fuzz/seeds/${name} ${fuzz_dir}/corpus/${name})
  set_tests_properties(fuzz_${name} PROPERTIES LABELS fuzz TIMEOUT 300
                       ENVIRONMENT "ASAN_OPTIONS=allocator_may_return_null=1:${ARG_ENVIRONMENT}")
endfunction()

set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
ivg_fuzz_target(calls 8000 SOURCES ${unit}/exec_fake_driver.c LIBS ivg_exec_core ARGS -dict=${fuzz_dir}/calls.dict -max_len=8192)
target_include_directories(fuzz_calls PRIVATE ${unit})
target_link_options(fuzz_calls PRIVATE -Wl,--wrap=urcu_memb_call_rcu,--wrap=urcu_memb_barrier,--wrap=urcu_memb_synchronize_rcu)
ivg_fuzz_target(ring 20000 LIBS ivg_ring)
ivg_fuzz_target(region 50000 LIBS ivg_glue)
ivg_fuzz_target(local 10000 LIBS ivg_glue)
target_include_directories(fuzz_local PRIVATE ${CMAKE_SOURCE_DIR}/ivshmem-glue/src)
ivg_fuzz_target(images 20000 SOURCES ${CMAKE_SOURCE_DIR}/guest/src/image.c ${CMAKE_SOURCE_DIR}/hostexec/softgpu/cu_image.c
                LIBS ivg_exec_core ivg_softgpu_ptx ARGS -max_len=16384)
target_include_directories(fuzz_images PRIVATE ${CMAKE_SOURCE_DIR}/guest/src ${CMAKE_SOURCE_DIR}/hostexec/softgpu)
# libconfig's scanner loses the buffer of a string that has no end; the mediator reads its file once.
ivg_fuzz_target(config 5000 LIBS ivg_mediator ENVIRONMENT detect_leaks=0)
ivg_fuzz_target(ptx 10000 LIBS ivg_softgpu_ptx ARGS -dict=${fuzz_dir}/ptx.dict -max_len=16384)

# Seeds are made by each build, from what there is then: a new call is fuzzed without anybody thinking of it.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(fuzz_call_seeds EXCLUDE_FROM_ALL ${fuzz_dir}/call_seeds.c ${CMAKE_BINARY_DIR}/generated/call_samples.c)
set_target_properties(fuzz_call_seeds PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
target_link_libraries(fuzz_call_seeds PRIVATE ivg_calls ivg_glue ivg_ring)
add_dependencies(fuzz_call_seeds ivg_generate)
add_custom_target(fuzz_seeds COMMAND ${Python3_EXECUTABLE} -B ${fuzz_dir}/make_seeds ${CMAKE_BINARY_DIR}
                  DEPENDS fuzz_call_seeds COMMENT "Writing fuzz/seeds" VERBATIM)
add_dependencies(fuzz fuzz_seeds)
