# The soft GPU's driver half, through its library.
if(TARGET ivg_softgpu)
  set_source_files_properties(${IVG_GENERATED_DIR}/ivgpu_driver.c PROPERTIES GENERATED TRUE)
  foreach(name
      softgpu_driver_contexts_are_current_per_thread
      softgpu_driver_faults_stick_to_their_context
      softgpu_driver_launches_take_their_parameters
      softgpu_driver_memory_is_bounded_and_given_back
      softgpu_driver_modules_load_from_every_image
      softgpu_driver_streams_order_work
      softgpu_driver_threads_share_a_context)
    ivg_add_test(${name} SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/${name}.c ${IVG_GENERATED_DIR}/ivgpu_driver.c
                 LIBS ivg_calls ${CMAKE_DL_LIBS} LABELS unit softgpu)
    if(TARGET ${name})
      target_compile_definitions(${name} PRIVATE SOFTGPU_LIBRARY="$<TARGET_FILE:ivg_softgpu>"
                                                 SOFTGPU_IMAGES="${CMAKE_CURRENT_SOURCE_DIR}/unit/fatbin")
      add_dependencies(${name} ivg_softgpu)
    endif()
  endforeach()
endif()
