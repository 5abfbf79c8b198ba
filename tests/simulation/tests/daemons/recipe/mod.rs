//! The recipe "Simulate your own daemon" of `docs/recipes.md`, as the page prints it.

mod shout;

#[test]
fn the_recipe_that_is_printed_is_the_one_that_runs() {
    let page = include_str!("../../../../../docs/recipes.md");
    assert!(page.contains(include_str!("shout.rs")));
}
