//! What was measured: medians, spread, and ratios to the first of each table; for a terminal, for a page, for a program.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use serde_json::{Value, json};
use workloads::Result;

use crate::catalogue::{Better, Case, Figure};
use crate::machine::Machine;
use crate::plot;
use crate::program::{Absence, Origin};
use crate::rounds::Figures;
use crate::spread::Spread;

/// A case, and what each contestant did.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) case: Case,
    pub(crate) rows: Vec<Row>,
    /// Who did not take part, and why.
    pub(crate) missing: Vec<(&'static str, Absence)>,
}

/// What one contestant did, round by round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Figures>,
}

impl Row {
    /// Whether it is by this library: those are named after its crates.
    pub(crate) fn is_ours(&self) -> bool {
        ["reactor", "handlers"].iter().any(|name| self.name.starts_with(name))
    }

    /// One of its figures, if it prints that.
    pub(crate) fn spread(&self, figure: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.get(figure).copied()).collect())
    }

    /// The ratio to another, round by round.
    pub(crate) fn ratio(&self, to: &Self, figure: &str) -> Option<Spread> {
        let rounds = self.rounds.iter().zip(&to.rounds);
        Spread::of(rounds.filter_map(|(own, other)| Some(own.get(figure)? / other.get(figure)?)).collect())
    }
}

impl Better {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Less => "less",
            Self::More => "more",
        }
    }
}

impl Table {
    /// The workload whose case this is.
    pub(crate) fn workload(&self) -> &'static str {
        self.case.arguments[0]
    }

    /// What the first contestant did, if that took part: the ratios are to it.
    pub(crate) fn floor(&self) -> Option<&Row> {
        let first = self.case.contestants.first()?;
        self.rows.first().filter(|row| row.name == first.name)
    }

    /// Where those come from that took part.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Origin> {
        let took_part = |name| self.rows.iter().any(|row| row.name == name);
        self.case.contestants.iter().filter(move |contestant| took_part(contestant.name)).map(|one| &one.origin)
    }

    /// The heads of the columns beside that of the names.
    fn heads(&self) -> Vec<&'static str> {
        self.columns(|place, figure| {
            let ratio = (place == 0 || figure.compared).then_some("ratio");
            [Some(figure.title), (place == 0).then_some("least to most"), ratio].into_iter().flatten().collect()
        })
    }

    /// What stands in a row beside the name; nothing where the contestant does not tell.
    fn cells(&self, row: &Row) -> Vec<String> {
        self.columns(|place, figure| {
            let spread = row.spread(figure.name);
            let median = spread.map(|spread| brief(spread.median));
            let ends = spread.map(|spread| format!("{} to {}", brief(spread.least), brief(spread.most)));
            let ratio = (place == 0 || figure.compared).then(|| self.ratio(row, figure.name));
            [Some(median), (place == 0).then_some(ends), ratio]
                .into_iter()
                .flatten()
                .map(Option::unwrap_or_default)
                .collect()
        })
    }

    /// The ratio to the first contestant, and how much it may be off by; that of the first itself is no measurement.
    pub(crate) fn ratio(&self, row: &Row, figure: &str) -> Option<String> {
        let floor = self.floor()?;
        let ratio = row.ratio(floor, figure)?;
        // Two digits say too little where a hundredth can be told apart.
        let digits = if (0.1..10.0).contains(&ratio.median) { 3 } else { digits(ratio.median) };
        let median = format!("{:.digits$}", ratio.median);
        Some(if row.name == floor.name { median } else { format!("{median} ±{:.digits$}", ratio.off_by()) })
    }

    fn columns<T>(&self, of: impl Fn(usize, &Figure) -> Vec<T>) -> Vec<T> {
        self.case.figures.iter().enumerate().flat_map(|(place, figure)| of(place, figure)).collect()
    }

    fn markdown(&self) -> String {
        let better = self.case.figures.first().map_or("", |figure| figure.better.word());
        let heads = self.heads();
        let mut page = format!("### {}\n\n| | {} |\n", self.case.title, heads.join(" | "));
        page += &format!("| --- |{}\n", " ---: |".repeat(heads.len()));
        for row in &self.rows {
            let name = if row.is_ours() { format!("**{}**", row.name) } else { row.name.to_owned() };
            page += &format!("| {name} | {} |\n", self.cells(row).join(" | "));
        }
        page += &format!("\nIn the first column, {better} is better.");
        if !self.missing.is_empty() {
            let missing: Vec<_> = self.missing.iter().map(|(name, why)| format!("{name} ({why})")).collect();
            page += &format!(" Missing: {}.", missing.join(", "));
        }
        page + "\n"
    }

    fn json(&self) -> Value {
        let figures =
            self.case.figures.iter().map(
                |Figure { name, title, better, .. }| json!({ "name": name, "title": title, "better": better.word() }),
            );
        let rows = self.rows.iter().map(|row| {
            let told = self.case.figures.iter().filter_map(|figure| {
                let mut told = row.spread(figure.name)?.json();
                if let Some(ratio) = self.floor().and_then(|floor| row.ratio(floor, figure.name)) {
                    told["ratio"] = ratio.json();
                }
                Some((figure.name.to_owned(), told))
            });
            json!({ "name": row.name, "figures": told.collect::<serde_json::Map<_, _>>(), "rounds": row.rounds })
        });
        let missing = self.missing.iter().map(|(name, why)| json!({ "name": name, "why": why.to_string() }));
        json!({
            "title": self.case.title, "arguments": self.case.arguments, "figures": figures.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(), "missing": missing.collect::<Vec<_>>(),
        })
    }
}

/// Columns of a terminal at which the heads of a table are broken.
const HEAD: usize = 9;

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let better = self.case.figures.first().map_or("", |figure| figure.better.word());
        writeln!(out, "\n{} ({better} is better)", self.case.title)?;
        let heads: Vec<_> = self.heads().into_iter().map(|head| wrap(head, HEAD)).collect();
        let rows: Vec<_> = self.rows.iter().map(|row| (row.name, self.cells(row))).collect();
        let names = rows.iter().map(|(name, _)| name).chain(self.missing.iter().map(|(name, _)| name));
        let names = names.map(|name| name.len()).max().unwrap_or(0);
        let widths: Vec<_> = (0..heads.len())
            .map(|column| {
                let cells = rows.iter().map(|(_, cells)| cells[column].chars().count());
                cells.chain(heads[column].iter().map(String::len)).max().unwrap_or(0)
            })
            .collect();
        let mut line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = widths.iter().zip(cells).map(|(width, cell)| format!("  {cell:>width$}"));
            let line = format!("  {name:names$}{}", cells.collect::<String>());
            writeln!(out, "{}", line.trim_end())
        };
        let height = heads.iter().map(Vec::len).max().unwrap_or(0);
        // Heads of fewer lines stand on the rows, not under the title.
        for place in (1..=height).rev() {
            line("", &mut heads.iter().map(|head| head.len().checked_sub(place).map_or("", |at| head[at].as_str())))?;
        }
        for (name, cells) in &rows {
            line(name, &mut cells.iter().map(String::as_str))?;
        }
        self.missing.iter().try_for_each(|(name, why)| writeln!(out, "  {name:names$}  missing: {why}"))
    }
}

/// Breaks a text between words into lines of at most so many letters, unless a word is longer.
pub(crate) fn wrap(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= letters => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A whole number as it is; three digits that matter, and all before the point.
pub(crate) fn brief(figure: f64) -> String {
    let digits = digits(figure);
    format!("{figure:.digits$}")
}

/// Behind the point.
fn digits(figure: f64) -> usize {
    let magnitude = figure.abs().max(1e-4).log10().floor();
    if figure.fract() == 0.0 { 0 } else { (2.0 - magnitude).max(0.0) as usize }
}

/// Everything, as it was printed, with what it ran on.
pub(crate) fn json(machine: &Machine, tables: &[Table]) -> Result<String> {
    let cases: Vec<_> = tables.iter().map(Table::json).collect();
    Ok(serde_json::to_string_pretty(&json!({ "machine": machine.json(), "cases": cases }))?)
}

/// The tables as a page, with the pictures if there are some, by their way from the folder of the page.
pub(crate) fn markdown(machine: &Machine, tables: &[Table], pictures: Option<&Path>) -> String {
    let peers = machine.peers(tables.iter().flat_map(Table::origins));
    let mut page = format!("Measured {}.\n{}.\n", machine.place(), machine.versions(peers));
    page += "\nRatios are to the first of each table; behind ± is how much one may be off by, in 95 of 100 cases.\n";
    for workload in tables.chunk_by(|one, next| one.workload() == next.workload()) {
        let name = workload[0].workload();
        page += &format!("\n## {name}\n");
        if let Some(pictures) = pictures {
            page += &format!("\n![{name}]({})\n", plot::file(pictures, name).display());
        }
        for table in workload {
            page += &format!("\n{}", table.markdown());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{self, Cores};
    use crate::program::Contestant;

    const FIGURES: &[Figure] = &[
        Figure { name: "ns_per_op", title: "ns an event", better: Better::Less, compared: true },
        Figure { name: "bytes", title: "resident bytes of a source", better: Better::Less, compared: false },
    ];

    fn row(name: &'static str, rounds: &[&[(&str, f64)]]) -> Row {
        let figures = |round: &&[(&str, f64)]| round.iter().map(|&(name, figure)| (name.to_owned(), figure)).collect();
        Row { name, rounds: rounds.iter().map(figures).collect() }
    }

    fn table() -> Table {
        let contestants = vec![
            Contestant::c("epoll loop in C", "chain/raw.c", None),
            Contestant::ours(&[]),
            Contestant::rust("mio"),
            Contestant::c("libev", "chain/libev.c", None),
        ];
        let (title, arguments) = ("a chain", ["chain", "--active", "1"].as_slice());
        let case =
            Case { title, arguments, small: &[], figures: FIGURES, cores: Cores::One, counted: None, contestants };
        let rows = vec![
            row("epoll loop in C", &[&[("ns_per_op", 100.0)], &[("ns_per_op", 200.0)], &[("ns_per_op", 120.0)]]),
            row(
                "reactor",
                &[&[("ns_per_op", 150.0)], &[("ns_per_op", 100.0)], &[("ns_per_op", 120.0), ("bytes", 96.0)]],
            ),
            row("mio", &[&[("bytes", 1.0)]]),
        ];
        Table { case, rows, missing: vec![("libev", Absence::Missing("it is not installed".to_owned()))] }
    }

    #[test]
    fn a_ratio_is_that_of_the_same_round_and_not_of_the_medians() {
        let table = table();
        let ratio = table.rows[1].ratio(&table.rows[0], "ns_per_op").unwrap();
        assert_eq!((ratio.least, ratio.median, ratio.most), (0.5, 1.0, 1.5));
        assert_eq!(table.rows[2].ratio(&table.rows[0], "ns_per_op"), None, "it never told");
    }

    #[test]
    fn without_the_first_contestant_there_are_no_ratios() {
        let mut table = table();
        table.rows.remove(0);
        assert!(table.floor().is_none());
        assert_eq!(table.cells(&table.rows[0])[2], "");
    }

    #[test]
    fn a_brief_number_is_whole_or_has_three_digits_that_matter_and_all_before_the_point() {
        let written = [0.0, 0.0006, 0.031_44, 0.5, 1.0, 1.234, 12.34, 24.0, 123.4, 1234.4, 45_000.0].map(brief);
        assert_eq!(written, ["0", "0.000600", "0.0314", "0.500", "1", "1.23", "12.3", "24", "123", "1234", "45000"]);
        assert_eq!(brief(-0.02), "-0.0200");
    }

    #[test]
    fn a_ratio_is_told_with_how_much_it_may_be_off_by_to_as_many_digits() {
        let told = |floor: f64, own: &[f64]| {
            let rounds =
                |rounds: &[f64]| rounds.iter().map(|&it| Figures::from([("ns_per_op".to_owned(), it)])).collect();
            let mut table = table();
            table.rows[0].rounds = rounds(&[floor; 3]);
            table.rows[1].rounds = rounds(own);
            table.ratio(&table.rows[1], "ns_per_op").unwrap()
        };
        assert_eq!(told(100.0, &[94.6, 94.0, 95.01]), "0.946 ±0.006");
        assert_eq!(told(100.0, &[100.0, 100.0, 100.0]), "1.000 ±0.000");
        assert_eq!(told(1.0, &[140.3, 139.0, 142.5]), "140 ±2");
        assert_eq!(told(100.0, &[3.144, 3.1, 3.144]), "0.0314 ±0.0004");
        let table = table();
        assert_eq!(table.ratio(&table.rows[0], "ns_per_op").unwrap(), "1.000");
    }

    #[test]
    fn a_text_breaks_between_words_only() {
        assert_eq!(wrap("resident bytes of a source", 11), ["resident", "bytes of a", "source"]);
        assert_eq!(wrap("incomprehensibly long", 5), ["incomprehensibly", "long"]);
        assert!(wrap("", 5).is_empty());
    }

    #[test]
    fn every_column_of_a_table_ends_where_its_head_does() {
        let text = table().to_string();
        let end =
            |word: &str| text.lines().find_map(|line| line.split_once(word)).unwrap().0.chars().count() + word.len();
        assert_eq!(end("ratio"), end("1.000"));
        assert_eq!(end("source"), end("96"));
        assert!(text.lines().all(|line| line == line.trim_end()));
        assert!(text.contains("libev            missing: it is not installed"));
    }

    #[test]
    fn every_table_fits_into_120_columns_however_far_its_figures_lie_apart() {
        for case in catalogue::all() {
            let rounds = |to_first: f64| -> Vec<Figures> {
                let figure =
                    |round: f64| case.figures.iter().map(move |it| (it.name.to_owned(), 123_456.0 * to_first * round));
                [1.0, 1.123].map(|round| figure(round).collect()).into()
            };
            let names = case.contestants.iter().map(|contestant| contestant.name);
            let rows =
                names.enumerate().map(|(place, name)| Row { name, rounds: rounds(1.0 + place as f64 / 8.0) }).collect();
            let table = Table { case, rows, missing: Vec::new() };
            let widest = table.to_string().lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(120), "{widest:?}\n{table}");
        }
    }

    #[test]
    fn markdown_has_as_many_cells_in_each_row_and_ours_in_bold() {
        let page = table().markdown();
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + 3);
        assert!(rows.iter().all(|row| row.matches('|').count() == 6), "{page}");
        assert!(page.contains("| **reactor** | 120 | 100 to 150 | 1.000 ±0.500 | 96 |"), "{page}");
        assert!(page.contains("Missing: libev (it is not installed)."));
    }

    #[test]
    fn json_keeps_every_round_beside_what_was_made_of_them() {
        let case = table().json();
        assert_eq!(case["arguments"], json!(["chain", "--active", "1"]));
        assert_eq!(case["figures"][0], json!({ "name": "ns_per_op", "title": "ns an event", "better": "less" }));
        let ours = &case["rows"][1];
        assert_eq!(ours["name"], "reactor");
        assert_eq!(ours["rounds"][2], json!({ "ns_per_op": 120.0, "bytes": 96.0 }));
        assert_eq!(ours["figures"]["ns_per_op"]["median"], 120.0);
        assert_eq!(
            ours["figures"]["ns_per_op"]["ratio"],
            json!({ "least": 0.5, "from": 0.5, "median": 1.0, "to": 1.5, "most": 1.5 })
        );
        assert_eq!(
            ours["figures"]["bytes"],
            json!({ "least": 96.0, "from": 96.0, "median": 96.0, "to": 96.0, "most": 96.0 })
        );
        assert_eq!(case["missing"], json!([{ "name": "libev", "why": "it is not installed" }]));
    }
}
