find_package(Python3 REQUIRED COMPONENTS Interpreter)
# The Spin models, each as it is and in each variant that must fail.
foreach(model answer board channel claim close park reaper recover slot unwatched wake_consumer)
  add_test(NAME model_${model} COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/ring/models/run.py ${model})
  set_tests_properties(model_${model} PROPERTIES LABELS "model;ring" TIMEOUT 600)
endforeach()
add_test(NAME ordering_page_matches_the_code
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/unit/ordering_page_matches_the_code.py
                 ${CMAKE_SOURCE_DIR})
set_tests_properties(ordering_page_matches_the_code PROPERTIES LABELS unit TIMEOUT 180)
