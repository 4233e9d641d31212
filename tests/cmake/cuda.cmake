# CUDA programs through the whole path: shim, ring, executor. Driver API programs carry their kernels as checked-in PTX;
# runtime API programs are built where nvcc is, with static and with shared cudart.
set(cuda_dir ${CMAKE_CURRENT_SOURCE_DIR}/cuda)
set(cuda_bin ${CMAKE_BINARY_DIR}/tests/cuda)

add_library(ivg_test_kernels OBJECT ${cuda_dir}/kernels_ptx.c)
target_compile_definitions(ivg_test_kernels PRIVATE IVG_KERNELS_PTX="${cuda_dir}/kernels.ptx")
set_source_files_properties(${cuda_dir}/kernels_ptx.c PROPERTIES OBJECT_DEPENDS ${cuda_dir}/kernels.ptx)

# Linked against our shim for its symbols only: no run path, so the loader takes the libcuda.so.1 that it would take for
# any program.
function(ivg_cuda_program name)
  add_executable(cuda_${name} ${cuda_dir}/${name}.c)
  set_target_properties(cuda_${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${cuda_bin} SKIP_BUILD_RPATH ON)
  target_link_libraries(cuda_${name} PRIVATE ivg_test_kernels ivg_calls ivg_libcuda m Threads::Threads)
  if(IVG_SANITIZE STREQUAL "thread")
    set_target_properties(cuda_${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
endfunction()

# ivg_cuda_test(NAME PROGRAM [ARGS...]): in local mode on the soft GPU.
function(ivg_cuda_test name program)
  add_test(NAME cuda_${name} COMMAND ${CMAKE_BINARY_DIR}/bin/ivgpu-run --device soft -- ${program} ${ARGN})
  set_tests_properties(cuda_${name} PROPERTIES TIMEOUT 300 LABELS cuda)
endfunction()

set(cuda_programs
    demo
    graphs
    graph_changes
    graph_copies
    graph_nodes
    user_objects
    launches
    handles
    images
    memory
    primary
    proc_address
    streams
    synchronize
    modules
    threads
    fault
    process
    launch_chains
    launch_rate
    loop
    share
    slices
    callbacks
    capture_rules
    managed
    memops
    printf
    ipc
    textures
    references
    arrays
    )
foreach(program ${cuda_programs})
  ivg_cuda_program(${program})
  if(NOT program MATCHES "^(threads|loop|share|slices)$")
    ivg_cuda_test(${program} ${cuda_bin}/${program})
  endif()
endforeach()
foreach(how chained plain)
  ivg_cuda_test(launch_chains_${how} ${cuda_bin}/launch_chains)
  set_tests_properties(cuda_launch_chains_${how} PROPERTIES ENVIRONMENT IVGPU_LAUNCHES=${how})
endforeach()
ivg_cuda_test(threads ${cuda_bin}/threads 8)
ivg_cuda_program(large_copies)
ivg_cuda_test(large_copies ${cuda_bin}/large_copies)
set_tests_properties(cuda_large_copies PROPERTIES ENVIRONMENT IVGPU_COPY_THREADS=4) # however few processors there are
foreach(program vmm pools batches old_names peers)
  ivg_cuda_program(${program})
  ivg_cuda_test(${program} ${cuda_bin}/${program})
endforeach()
ivg_cuda_test(peers_of_two_devices ${cuda_bin}/peers count 2)
set_tests_properties(cuda_peers_of_two_devices PROPERTIES ENVIRONMENT "IVGPU_SOFT_DEVICES=2")
ivg_cuda_test(peers_one_of_two_chosen ${cuda_bin}/peers count 1)
set_tests_properties(cuda_peers_one_of_two_chosen PROPERTIES
                     ENVIRONMENT "IVGPU_SOFT_DEVICES=2;CUDA_VISIBLE_DEVICES=1")
foreach(program printf textures references) # with PTX of their own
  string(TOUPPER ${program} upper)
  target_compile_definitions(cuda_${program} PRIVATE IVG_${upper}_PTX="${cuda_dir}/${program}.ptx")
  set_source_files_properties(${cuda_dir}/${program}.c PROPERTIES OBJECT_DEPENDS ${cuda_dir}/${program}.ptx)
endforeach()
ivg_cuda_test(arrays_as_before_cuda_4 ${cuda_bin}/arrays old)
ivg_cuda_test(printf_of_an_assertion ${cuda_bin}/printf assert)
# Names by version, as this driver and as older and newer ones have them: 13.0 is what we carry.
add_dependencies(cuda_proc_address ivg_softgpu)
target_include_directories(cuda_proc_address PRIVATE ${CMAKE_BINARY_DIR}/hostexec/softgpu)
foreach(claim "12020;12020" "13050;13000" "11080;11080")
  list(GET claim 0 claimed)
  list(GET claim 1 shown)
  ivg_cuda_test(proc_address_over_${claimed} ${cuda_bin}/proc_address ${shown})
  set_tests_properties(cuda_proc_address_over_${claimed} PROPERTIES ENVIRONMENT "IVGPU_SOFT_DRIVER_VERSION=${claimed}")
endforeach()
ivg_cuda_test(callbacks_of_a_failed_context ${cuda_bin}/callbacks fault)
ivg_cuda_test(primary_after_a_created_one ${cuda_bin}/primary created)
ivg_cuda_test(primary_without_flags ${cuda_bin}/primary plain)
ivg_cuda_test(threads_beyond_lines ${cuda_bin}/threads 160)

foreach(program contexts green devices functions memory_forms stream_forms link diagnostics)
  ivg_cuda_program(${program})
  ivg_cuda_test(${program} ${cuda_bin}/${program})
endforeach()

# Under a cap, which tests/integration/vram_is_capped.py sets.
ivg_cuda_program(cap)
target_link_libraries(cuda_cap PRIVATE ${CMAKE_DL_LIBS})

# One program, a process for each case.
ivg_cuda_program(semantics)
target_link_libraries(cuda_semantics PRIVATE ${CMAKE_DL_LIBS})
foreach(case per_thread per_thread_twins legacy errors forks fork_nvml reopened short_threads thread_exit atexit)
  ivg_cuda_test(semantics_${case} ${cuda_bin}/semantics ${case})
endforeach()

# The log names the functions that the program called; records only below them.
add_test(NAME cuda_calls_are_logged_by_name
         COMMAND ${CMAKE_BINARY_DIR}/bin/ivgpu-run --device soft --log=calls -- ${cuda_bin}/modules)
set_tests_properties(cuda_calls_are_logged_by_name PROPERTIES TIMEOUT 300 LABELS cuda
                     PASS_REGULAR_EXPRESSION "ivgpu: cuModuleLoadData\\(module=" FAIL_REGULAR_EXPRESSION "ivgpu: ivg")

foreach(program queries pending independent) # they count records
  ivg_cuda_program(${program})
  target_include_directories(cuda_${program} PRIVATE ${CMAKE_SOURCE_DIR}/guest/src)
  ivg_cuda_test(${program} ${cuda_bin}/${program})
endforeach()

find_program(IVG_NVCC nvcc HINTS /usr/local/cuda/bin)
if(IVG_NVCC AND NOT IVG_SANITIZE)
  foreach(program runtime runtime_graphs runtime_host)
    foreach(cudart static shared)
      add_custom_command(
        OUTPUT ${cuda_bin}/${program}_${cudart}
        COMMAND ${IVG_NVCC} -O2 -cudart ${cudart} -o ${cuda_bin}/${program}_${cudart} ${cuda_dir}/${program}.cu
        DEPENDS ${cuda_dir}/${program}.cu VERBATIM)
      add_custom_target(cuda_${program}_${cudart} ALL DEPENDS ${cuda_bin}/${program}_${cudart})
      ivg_cuda_test(${program}_${cudart} ${cuda_bin}/${program}_${cudart})
    endforeach()
  endforeach()
else()
  message(STATUS "runtime API programs (static and shared cudart) are not built: no nvcc, or a sanitizer build")
endif()

# A program over the runtimes of several toolkits (cuda/runtimes.txt), which are downloaded once; skipped, with words, where
# they cannot be had. Over drivers of several versions too: within a major version an older one will do.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(old_fatbin ${CMAKE_CURRENT_SOURCE_DIR}/unit/fatbin/none.fatbin)
add_executable(cuda_old_runtime ${cuda_dir}/old_runtime.c)
set_target_properties(cuda_old_runtime PROPERTIES OUTPUT_NAME old_runtime RUNTIME_OUTPUT_DIRECTORY ${cuda_bin})
target_link_libraries(cuda_old_runtime PRIVATE ${CMAKE_DL_LIBS})
target_compile_definitions(cuda_old_runtime PRIVATE IVG_FATBIN="${old_fatbin}")
set_source_files_properties(${cuda_dir}/old_runtime.c PROPERTIES OBJECT_DEPENDS ${old_fatbin})
function(ivg_cuda_old_runtime_test toolkit driver)
  set(test cuda_runtime_${toolkit}_over_driver_${driver})
  add_test(NAME ${test} COMMAND ${Python3_EXECUTABLE} -B ${cuda_dir}/with_runtime.py ${toolkit}
                                ${CMAKE_BINARY_DIR}/bin/ivgpu-run --device soft -- ${cuda_bin}/old_runtime RUNTIME ${ARGN})
  set_tests_properties(${test} PROPERTIES TIMEOUT 240 LABELS "cuda;toolkits" SKIP_RETURN_CODE 77
                       ENVIRONMENT "IVGPU_SOFT_DRIVER_VERSION=${driver}" RESOURCE_LOCK runtime_${toolkit})
endfunction()
foreach(toolkit 11.8 12.4 12.9)
  foreach(driver 12020 13000 13050)
    ivg_cuda_old_runtime_test(${toolkit} ${driver})
  endforeach()
endforeach()
ivg_cuda_old_runtime_test(13.0 12020 insufficient)
ivg_cuda_old_runtime_test(13.0 13000)
ivg_cuda_old_runtime_test(13.0 13050)

if(BUILD_TESTING)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ipc_handles_stay_in_their_machine
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/ipc_handles_stay_in_their_machine.py
                   ${cuda_bin}/ipc ${cuda_bin}/vmm)
  set_tests_properties(ipc_handles_stay_in_their_machine PROPERTIES TIMEOUT 300 LABELS "integration;cuda"
                       ENVIRONMENT "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endif()

# What tools/demo needs, without the tests.
add_custom_target(demo_parts DEPENDS ivgpud ivgpuctl ivgpu-exec ivgpu-run ivg_libcuda ivg_softgpu cuda_demo)
foreach(cudart static shared)
  if(TARGET cuda_runtime_${cudart})
    add_dependencies(demo_parts cuda_runtime_${cudart})
  endif()
endforeach()

if(BUILD_TESTING)
  add_test(NAME images_cross_once
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/integration/images_cross_once.py)
  set_tests_properties(images_cross_once PROPERTIES TIMEOUT 300 LABELS "integration;cuda"
                       ENVIRONMENT "IVGPU_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endif()
