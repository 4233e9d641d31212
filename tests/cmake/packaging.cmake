# Packages, in a root of their own. It takes what is built; a build folder with another prefix makes other units.
if(BUILD_TESTING AND NOT IVG_SANITIZE AND CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  add_custom_target(installed_in_all ALL DEPENDS installed)
  add_test(NAME packages_install_and_leave COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/packaging/packages.bash ${CMAKE_BINARY_DIR})
  set_tests_properties(packages_install_and_leave PROPERTIES TIMEOUT 300 LABELS packaging SKIP_RETURN_CODE 77)
  add_test(NAME pages_say_what_help_says
           COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/packaging/pages.py ${CMAKE_BINARY_DIR})
  set_tests_properties(pages_say_what_help_says PROPERTIES TIMEOUT 180 LABELS packaging)
endif()
