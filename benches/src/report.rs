//! The tables as reports: for a terminal, as a page, and as JSON.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use serde_json::{Value, json};
use workloads::Result;

use crate::catalogue::Figure;
use crate::machine::Machine;
use crate::plot;
use crate::table::{Row, Table};
use crate::text::{brief, wrap};

/// Returns the heads of the columns, without that of the names.
fn heads(table: &Table) -> Vec<&'static str> {
    columns(table, |place, figure| {
        let ratio = (place == 0 || figure.compared).then_some("ratio");
        [
            Some(figure.title),
            (place == 0).then_some("min to max"),
            ratio,
        ]
        .into_iter()
        .flatten()
        .collect()
    })
}

/// Returns the cells of a row, without its name. A cell is empty if the contestant does not print
/// the figure.
fn cells(table: &Table, row: &Row) -> Vec<String> {
    columns(table, |place, figure| {
        let spread = row.spread(figure.name);
        let median = spread.map(|spread| brief(spread.median));
        let ends =
            spread.map(|spread| format!("{} to {}", brief(spread.least), brief(spread.most)));
        let ratio = (place == 0 || figure.compared).then(|| table.ratio(row, figure.name));
        [Some(median), (place == 0).then_some(ends), ratio]
            .into_iter()
            .flatten()
            .map(Option::unwrap_or_default)
            .collect()
    })
}

fn columns<T>(table: &Table, of: impl Fn(usize, &Figure) -> Vec<T>) -> Vec<T> {
    table
        .case
        .figures
        .iter()
        .enumerate()
        .flat_map(|(place, figure)| of(place, figure))
        .collect()
}

fn table_markdown(table: &Table) -> String {
    let better = table
        .case
        .figures
        .first()
        .map_or("", |figure| figure.better.word());
    let heads = heads(table);
    let mut page = format!("### {}\n\n| | {} |\n", table.case.title, heads.join(" | "));
    page += &format!("| --- |{}\n", " ---: |".repeat(heads.len()));
    for row in &table.rows {
        let name = if row.is_ours() {
            format!("**{}**", row.name)
        } else {
            row.name.to_owned()
        };
        page += &format!("| {name} | {} |\n", cells(table, row).join(" | "));
    }
    page += &format!("\nIn the first column, {better} is better.");
    if !table.missing.is_empty() {
        let missing: Vec<_> = table
            .missing
            .iter()
            .map(|(name, why)| format!("{name} ({why})"))
            .collect();
        page += &format!(" Missing: {}.", missing.join(", "));
    }
    page + "\n"
}

fn table_json(table: &Table) -> Value {
    let figures = table.case.figures.iter().map(
        |Figure {
             name,
             title,
             better,
             ..
         }| json!({ "name": name, "title": title, "better": better.word() }),
    );
    let rows = table.rows.iter().map(|row| {
        let told = table.case.figures.iter().filter_map(|figure| {
            let mut told = row.spread(figure.name)?.json();
            if let Some(ratio) = table.floor().and_then(|floor| row.ratio(floor, figure.name)) {
                told["ratio"] = ratio.json();
            }
            Some((figure.name.to_owned(), told))
        });
        json!({ "name": row.name, "figures": told.collect::<serde_json::Map<_, _>>(), "rounds": row.rounds })
    });
    let missing = table
        .missing
        .iter()
        .map(|(name, why)| json!({ "name": name, "why": why.to_string() }));
    json!({
        "title": table.case.title, "arguments": table.case.arguments, "figures": figures.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(), "missing": missing.collect::<Vec<_>>(),
    })
}

/// The width at which the heads of a table are wrapped on a terminal, in columns.
const HEAD: usize = 9;

/// A table for a terminal.
pub(crate) struct Text<'a>(pub(crate) &'a Table);

impl Display for Text<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let table = self.0;
        let better = table
            .case
            .figures
            .first()
            .map_or("", |figure| figure.better.word());
        writeln!(out, "\n{} ({better} is better)", table.case.title)?;
        let heads: Vec<_> = heads(table)
            .into_iter()
            .map(|head| wrap(head, HEAD))
            .collect();
        let rows: Vec<_> = table
            .rows
            .iter()
            .map(|row| (row.name, cells(table, row)))
            .collect();
        let names = rows
            .iter()
            .map(|(name, _)| name)
            .chain(table.missing.iter().map(|(name, _)| name));
        let names = names.map(|name| name.len()).max().unwrap_or(0);
        let widths: Vec<_> = (0..heads.len())
            .map(|column| {
                let cells = rows.iter().map(|(_, cells)| cells[column].chars().count());
                cells
                    .chain(heads[column].iter().map(String::len))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = widths
                .iter()
                .zip(cells)
                .map(|(width, cell)| format!("  {cell:>width$}"));
            let line = format!("  {name:names$}{}", cells.collect::<String>());
            writeln!(out, "{}", line.trim_end())
        };
        let height = heads.iter().map(Vec::len).max().unwrap_or(0);
        // Heads of fewer lines are aligned with the rows, not with the title.
        for place in (1..=height).rev() {
            line(
                "",
                &mut heads.iter().map(|head| {
                    head.len()
                        .checked_sub(place)
                        .map_or("", |at| head[at].as_str())
                }),
            )?;
        }
        for (name, cells) in &rows {
            line(name, &mut cells.iter().map(String::as_str))?;
        }
        table
            .missing
            .iter()
            .try_for_each(|(name, why)| writeln!(out, "  {name:names$}  missing: {why}"))
    }
}

/// Returns the machine and all tables as JSON.
pub(crate) fn json(machine: &Machine, tables: &[Table]) -> Result<String> {
    let cases: Vec<_> = tables.iter().map(table_json).collect();
    Ok(serde_json::to_string_pretty(
        &json!({ "machine": machine.json(), "cases": cases }),
    )?)
}

/// Returns the tables as a page. `pictures` is the path from the folder of the page to that of the
/// plots, if there are plots.
pub(crate) fn markdown(machine: &Machine, tables: &[Table], pictures: Option<&Path>) -> String {
    let peers = machine.peers(tables.iter().flat_map(Table::origins));
    let mut page = format!(
        "Measured {}.\n{}.\n",
        machine.place(),
        machine.versions(peers)
    );
    page += "\nEach ratio is relative to the first row of its table. The figure after ± is the uncertainty of the ratio: a 95 % interval.\n";
    for workload in tables.chunk_by(|one, next| one.workload() == next.workload()) {
        let name = workload[0].workload();
        page += &format!("\n## {name}\n");
        if let Some(pictures) = pictures {
            page += &format!("\n![{name}]({})\n", plot::file(pictures, name).display());
        }
        for table in workload {
            page += &format!("\n{}", table_markdown(table));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::figures::Figures;
    use crate::table::example::table;

    #[test]
    fn without_the_first_contestant_there_are_no_ratios() {
        let mut table = table();
        table.rows.remove(0);
        assert!(table.floor().is_none());
        assert_eq!(cells(&table, &table.rows[0])[2], "");
    }

    #[test]
    fn every_column_of_a_table_ends_where_its_head_does() {
        let text = Text(&table()).to_string();
        let end = |word: &str| {
            text.lines()
                .find_map(|line| line.split_once(word))
                .unwrap()
                .0
                .chars()
                .count()
                + word.len()
        };
        assert_eq!(end("ratio"), end("1.000"));
        assert_eq!(end("source"), end("96"));
        assert!(text.lines().all(|line| line == line.trim_end()));
        assert!(text.contains("libev            missing: not installed"));
    }

    #[test]
    fn every_table_fits_into_120_columns_however_far_its_figures_lie_apart() {
        for case in catalogue::all() {
            let rounds = |to_first: f64| -> Vec<Figures> {
                let figure = |round: f64| {
                    case.figures
                        .iter()
                        .map(move |it| (it.name.to_owned(), 123_456.0 * to_first * round))
                };
                [1.0, 1.123].map(|round| figure(round).collect()).into()
            };
            let names = case.contestants.iter().map(|contestant| contestant.name);
            let rows = names
                .enumerate()
                .map(|(place, name)| Row {
                    name,
                    rounds: rounds(1.0 + place as f64 / 8.0),
                })
                .collect();
            let table = Table {
                case,
                rows,
                missing: Vec::new(),
            };
            let text = Text(&table).to_string();
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(120), "{widest:?}\n{text}");
        }
    }

    #[test]
    fn markdown_has_as_many_cells_in_each_row_and_ours_in_bold() {
        let page = table_markdown(&table());
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + 3);
        assert!(
            rows.iter().all(|row| row.matches('|').count() == 6),
            "{page}"
        );
        assert!(
            page.contains("| **reactor** | 120 | 100 to 150 | 1.000 ±0.500 | 96 |"),
            "{page}"
        );
        assert!(page.contains("Missing: libev (not installed)."));
    }

    #[test]
    fn json_keeps_every_round_beside_the_figures_derived_from_them() {
        let case = table_json(&table());
        assert_eq!(case["arguments"], json!(["chain", "--active", "1"]));
        assert_eq!(
            case["figures"][0],
            json!({ "name": "ns_per_op", "title": "ns an event", "better": "less" })
        );
        let ours = &case["rows"][1];
        assert_eq!(ours["name"], "reactor");
        assert_eq!(
            ours["rounds"][2],
            json!({ "ns_per_op": 120.0, "bytes": 96.0 })
        );
        assert_eq!(ours["figures"]["ns_per_op"]["median"], 120.0);
        assert_eq!(
            ours["figures"]["ns_per_op"]["ratio"],
            json!({ "least": 0.5, "from": 0.5, "median": 1.0, "to": 1.5, "most": 1.5 })
        );
        assert_eq!(
            ours["figures"]["bytes"],
            json!({ "least": 96.0, "from": 96.0, "median": 96.0, "to": 96.0, "most": 96.0 })
        );
        assert_eq!(
            case["missing"],
            json!([{ "name": "libev", "why": "not installed" }])
        );
    }
}
