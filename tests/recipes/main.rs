//! The recipes of `docs/recipes.md` that do something over time, as the page prints them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod upstream {
    include!("upstream.rs");

    mod tests;
}

#[test]
fn the_recipe_that_is_printed_is_the_one_that_is_tested() {
    assert!(include_str!("../../docs/recipes.md").contains(include_str!("upstream.rs")));
}
