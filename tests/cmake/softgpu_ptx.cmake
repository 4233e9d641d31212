# The soft GPU's PTX engine, linked directly; each test gets the folder of its kernels.
if(TARGET ivg_softgpu_ptx)
  foreach(name
      softgpu_ptx_faults_are_named
      softgpu_ptx_float_instructions_match_c
      softgpu_ptx_halves_round_once
      softgpu_ptx_integer_instructions_match_c
      softgpu_ptx_math_is_accurate
      softgpu_ptx_matrices_multiply
      softgpu_ptx_programs_match_c
      softgpu_ptx_text_is_checked
      softgpu_ptx_textures_stay_inside
      softgpu_ptx_threads_work_together)
    ivg_add_test(${name} SOURCES ${CMAKE_CURRENT_LIST_DIR}/../unit/${name}.c LIBS ivg_softgpu_ptx
                 LABELS unit softgpu)
    if(TARGET ${name})
      target_compile_definitions(${name} PRIVATE SOFTGPU_PTX="${CMAKE_CURRENT_LIST_DIR}/../unit/ptx")
    endif()
  endforeach()
  # The handlers that a processor without AVX2 runs; with sanitizers there are no others.
  foreach(name softgpu_ptx_float_instructions_match_c softgpu_ptx_halves_round_once
               softgpu_ptx_integer_instructions_match_c softgpu_ptx_math_is_accurate)
    if(TARGET ${name} AND NOT IVG_SANITIZE)
      add_test(NAME ${name}_without_avx2 COMMAND ${name})
      set_tests_properties(${name}_without_avx2 PROPERTIES ENVIRONMENT IVGPU_SOFT_BASELINE=1 TIMEOUT 300
                                                           LABELS "unit;softgpu")
    endif()
  endforeach()
endif()
