//! Plots: a bar for each contestant, and a panel for each case of a workload.
//!
//! The viewer draws the texts, in a font that is unknown here. So every text has room to spare, and
//! is aligned at one end of its own column.

use std::path::{Path, PathBuf};

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::coord::combinators::{IntoLogRange, LogCoord};
use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, TextStyle, WHITE};
use workloads::Result;

use crate::machine::Machine;
use crate::spread::Spread;
use crate::table::{Row, Table};
use crate::text::{brief, wrap};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: i32 = 900;
const MARGIN: i32 = 16;
/// Horizontal positions: the end of the names, both ends of the bars, the end of the values, and
/// the end of the ratios.
const NAMES: i32 = 212;
const BARS: (i32, i32) = (220, 690);
const VALUES: i32 = 762;
const RATIOS: i32 = WIDTH - MARGIN;

/// Heights: of the title with the text below it, of a row, of its bar, of the numbers at the axis,
/// and of a line of small text.
const HEAD: i32 = 46;
const ROW: i32 = 22;
const BAR: i32 = 14;
const AXIS: i32 = 20;
const LINE: i32 = 16;
const GAP: i32 = 18;

const BLACK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const OURS: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const PEER: RGBColor = RGBColor(0xa9, 0xb8, 0xc9);

/// If the greatest value exceeds the least by more than this factor, the scale is logarithmic. On a
/// linear scale the short bars would look alike.
const LINEAR_MAX: f64 = 20.0;
/// The number of letters of small text that fit into the width in any font.
const LETTERS: usize = 145;

/// Returns the path of a workload's plot.
pub(crate) fn file(folder: &Path, workload: &str) -> PathBuf {
    folder.join(workload).with_extension("svg")
}

/// Draws a plot for each workload into a folder, which is created if it does not exist.
pub(crate) fn draw(machine: &Machine, tables: &[Table], folder: &Path) -> Result {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for workload in tables.chunk_by(|one, next| one.workload() == next.workload()) {
        std::fs::write(
            file(folder, workload[0].workload()),
            picture(machine, workload)?,
        )?;
    }
    Ok(())
}

/// Returns the plot of one workload: its cases, and at the foot the machine and the versions.
fn picture(machine: &Machine, tables: &[Table]) -> Result<String> {
    let versions = machine.versions(machine.peers(tables.iter().flat_map(Table::origins)));
    let foot: Vec<_> = [machine.place(), versions]
        .iter()
        .flat_map(|text| wrap(text, LETTERS))
        .collect();
    let panels: Vec<_> = tables.iter().filter_map(Panel::of).collect();
    let height = panels.iter().map(|panel| panel.height() + GAP).sum::<i32>()
        + LINE * foot.len() as i32
        + MARGIN;

    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut top = MARGIN / 2;
    for panel in &panels {
        panel.draw(&root, top)?;
        top += panel.height() + GAP;
    }
    for line in &foot {
        write(&root, line, (MARGIN, top + LINE / 2), &small(HPos::Left))?;
        top += LINE;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

/// One case, with the contestants that printed its first figure.
struct Panel<'a> {
    table: &'a Table,
    rows: Vec<(&'a Row, Spread)>,
    scale: Scale,
    missing: Vec<String>,
}

impl<'a> Panel<'a> {
    fn of(table: &'a Table) -> Option<Self> {
        let figure = table.case.figures.first()?.name;
        let rows: Vec<_> = table
            .rows
            .iter()
            .filter_map(|row| Some((row, row.spread(figure)?)))
            .collect();
        let spreads: Vec<_> = rows.iter().map(|(_, spread)| *spread).collect();
        let scale = Scale::of(&spreads)?;
        let names: Vec<_> = table.missing.iter().map(|(name, _)| *name).collect();
        let missing = if names.is_empty() {
            Vec::new()
        } else {
            wrap(&format!("missing: {}", names.join(", ")), LETTERS)
        };
        Some(Self {
            table,
            rows,
            scale,
            missing,
        })
    }

    /// Returns the height without the gap below.
    fn height(&self) -> i32 {
        HEAD + ROW * self.rows.len() as i32 + AXIS + LINE * self.missing.len() as i32
    }

    fn draw(&self, area: &Area<'_>, top: i32) -> Result {
        let case = &self.table.case;
        let figure = case.figures.first().map_or(String::new(), |figure| {
            format!(
                "{}, {} is better{}",
                figure.title,
                figure.better.word(),
                self.scale.told()
            )
        });
        let title = ("sans-serif", 19)
            .into_font()
            .style(FontStyle::Bold)
            .color(&BLACK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        write(area, case.title, (MARGIN, top + 14), &title)?;
        write(area, &figure, (MARGIN, top + 33), &small(HPos::Left))?;
        write(area, "median", (VALUES, top + 33), &small(HPos::Right))?;
        write(area, "ratio", (RATIOS, top + 33), &small(HPos::Right))?;

        let (first, bottom) = (top + HEAD, top + HEAD + ROW * self.rows.len() as i32);
        for mark in self.scale.marks() {
            let x = self.scale.x(mark);
            area.draw(&PathElement::new([(x, first), (x, bottom)], GRID))?;
            write(area, &number(mark), (x, bottom + 10), &small(HPos::Center))?;
        }
        for (place, (row, spread)) in self.rows.iter().enumerate() {
            self.draw_row(area, first + ROW * place as i32 + ROW / 2, row, *spread)?;
        }
        if let Some((_, floor)) = self
            .table
            .floor()
            .and_then(|floor| self.rows.iter().find(|(row, _)| row.name == floor.name))
        {
            let x = self.scale.x(floor.median);
            area.draw(&PathElement::new(
                [(x, first - 4), (x, bottom + 2)],
                BLACK.mix(0.6),
            ))?;
        }
        for (place, line) in self.missing.iter().enumerate() {
            write(
                area,
                line,
                (MARGIN, bottom + AXIS + LINE * place as i32 + LINE / 2),
                &small(HPos::Left),
            )?;
        }
        Ok(())
    }

    fn draw_row(&self, area: &Area<'_>, middle: i32, row: &Row, spread: Spread) -> Result {
        let ours = row.is_ours();
        let (bar, weight) = if ours {
            (OURS, FontStyle::Bold)
        } else {
            (PEER, FontStyle::Normal)
        };
        let text = |h_pos| {
            ("sans-serif", 15)
                .into_font()
                .style(weight)
                .color(&BLACK)
                .pos(Pos::new(h_pos, VPos::Center))
        };
        write(area, row.name, (NAMES, middle), &text(HPos::Right))?;

        let corners = [
            (BARS.0, middle - BAR / 2),
            (self.scale.x(spread.median), middle + BAR / 2),
        ];
        area.draw(&Rectangle::new(corners, bar.filled()))?;
        let [least, most] = [spread.least, spread.most].map(|end| self.scale.x(end));
        area.draw(&PathElement::new([(least, middle), (most, middle)], BLACK))?;
        for end in [least, most] {
            area.draw(&PathElement::new(
                [(end, middle - 3), (end, middle + 3)],
                BLACK,
            ))?;
        }

        write(
            area,
            &brief(spread.median),
            (VALUES, middle),
            &text(HPos::Right),
        )?;
        let figure = self
            .table
            .case
            .figures
            .first()
            .map_or("", |figure| figure.name);
        if let Some(ratio) = self.table.ratio(row, figure) {
            write(area, &ratio, (RATIOS, middle), &text(HPos::Right))?;
        }
        Ok(())
    }
}

/// Maps a value to its horizontal position.
enum Scale {
    Linear(RangedCoordf64),
    Logarithmic(LogCoord<f64>),
}

impl Scale {
    /// Returns a scale that all values fit in, or `None` if there are no values.
    fn of(spreads: &[Spread]) -> Option<Self> {
        let least = |of: fn(&Spread) -> f64| spreads.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&Spread) -> f64| spreads.iter().map(of).fold(0.0, f64::max);
        let (from, to) = (least(|spread| spread.least), most(|spread| spread.most));
        if to <= 0.0 {
            return None;
        }
        let ratio = most(|spread| spread.median) / least(|spread| spread.median);
        // The shortest bar and the end of the longest line must be visible.
        Some(if from > 0.0 && ratio > LINEAR_MAX {
            Self::Logarithmic((from / 2.0..to * 1.1).log_scale().into())
        } else {
            Self::Linear((0.0..to * 1.02).into())
        })
    }

    fn x(&self, value: f64) -> i32 {
        match self {
            Self::Linear(scale) => scale.map(&value, BARS),
            Self::Logarithmic(scale) => scale.map(&value, BARS),
        }
    }

    /// Returns the values that are written below the axis.
    fn marks(&self) -> Vec<f64> {
        match self {
            Self::Linear(scale) => scale.key_points(8),
            Self::Logarithmic(scale) => scale.key_points(8),
        }
    }

    const fn told(&self) -> &'static str {
        match self {
            Self::Linear(_) => "",
            Self::Logarithmic(_) => "; the scale is logarithmic",
        }
    }
}

/// Formats a round number in as few digits as possible.
fn number(value: f64) -> String {
    let digits = format!("{value:.6}");
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn small<'a>(h_pos: HPos) -> TextStyle<'a> {
    ("sans-serif", 13.5)
        .into_font()
        .color(&GREY)
        .pos(Pos::new(h_pos, VPos::Center))
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), style: &TextStyle<'_>) -> Result {
    Ok(area.draw(&Text::new(text, at, style.clone()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(values: &[f64]) -> Option<Scale> {
        let spreads: Vec<_> = values
            .iter()
            .filter_map(|&value| Spread::of(vec![value / 1.5, value, value * 1.5]))
            .collect();
        Scale::of(&spreads)
    }

    #[test]
    fn every_bar_is_seen_and_ends_within_its_column() {
        for values in [
            &[3.0, 59.0][..],
            &[3.0, 61.0],
            &[0.0006, 1.0],
            &[5.0],
            &[0.0, 4.0e9],
        ] {
            let scale = scale(values).unwrap();
            for &value in values {
                assert!(
                    (BARS.0..=BARS.1).contains(&scale.x(value)),
                    "{value} of {values:?}"
                );
                assert!(
                    value == 0.0 || scale.x(value) > BARS.0,
                    "{value} of {values:?}"
                );
            }
        }
        assert!(scale(&[]).is_none());
        assert!(scale(&[0.0]).is_none());
    }

    #[test]
    fn a_scale_is_logarithmic_only_where_medians_lie_far_apart() {
        let is_logarithmic = |values| matches!(scale(values), Some(Scale::Logarithmic(_)));
        assert!(!is_logarithmic(&[3.0, 59.0]));
        assert!(is_logarithmic(&[3.0, 61.0]));
        assert!(!is_logarithmic(&[0.0, 61.0]), "nothing has no place on it");
    }

    #[test]
    fn a_number_at_the_axis_ends_where_its_digits_do() {
        assert_eq!(
            [0.0, 0.25, 100.0, 1500.0, 0.000_1].map(number),
            ["0", "0.25", "100", "1500", "0.0001"]
        );
    }
}
