//! The recipes of the documentation that do something over time, as the pages print them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod upstream {
    include!("upstream.rs");

    mod tests;
}

mod request_context {
    include!("request_context.rs");

    mod tests;
}

#[test]
fn the_recipe_that_is_printed_is_the_one_that_is_tested() {
    assert!(include_str!("../../docs/recipes.md").contains(include_str!("upstream.rs")));
    let page = include_str!("../../docs/request-context.md");
    assert!(page.contains(include_str!("request_context.rs")));
}
