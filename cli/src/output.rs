//! What the commands print: aligned tables for people, JSON and YAML for programs.
//!
//! Invariant: standard output carries the answer and nothing else; remarks go to standard error.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde_json::Value;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON document
    Json,
    /// YAML; objects come out as they can be applied
    Yaml,
}

/// The `-o` option.
#[derive(Debug, Args)]
pub(crate) struct OutputArguments {
    /// How to print the answer
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) format: Format,
}

/// Prints one value as JSON or YAML, or as the table made from it.
pub(crate) fn print(
    format: Format,
    value: &Value,
    table: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => format!("{value:#}\n"),
        Format::Yaml => serde_saphyr::to_string(value)?,
    };
    print_text(&text)
}

/// Writes text to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes a line for people to standard error.
pub(crate) fn remark(text: &str) {
    // Nothing is left to do when standard error is closed.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Lines up columns two spaces apart; the first row is the heading.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![
                headings
                    .iter()
                    .map(|heading| (*heading).to_owned())
                    .collect(),
            ],
        }
    }

    /// A table of pairs, without headings.
    pub(crate) fn pairs() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row; control characters in it become spaces.
    pub(crate) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let clean = |cell: C| cell.into().replace(char::is_control, " ");
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// The aligned text, each line ended, without spaces at line ends.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| width(column).unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text at a JSON pointer: strings as they are, lists joined by commas, nothing as `-`.
pub(crate) fn cell(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .map_or_else(|| "-".to_owned(), cell_text)
}

fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell_text).collect::<Vec<_>>().join(","),
        Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_without_trailing_spaces() {
        let mut table = Table::new(&["NAME", "PORTS"]);
        table.row(["shop/orders", "http"]);
        table.row(["a/b", ""]);
        assert_eq!(
            table.render(),
            "NAME         PORTS\nshop/orders  http\na/b\n"
        );
    }

    #[test]
    fn control_characters_from_the_server_reach_no_terminal() {
        let mut table = Table::new(&["REASON"]);
        table.row(["a\u{1b}[31m\nb"]);
        assert_eq!(table.render(), "REASON\na [31m b\n");
    }

    #[test]
    fn missing_and_empty_values_show_as_a_dash() {
        let value = json!({ "reason": "", "agents": [], "at": null });
        let cells = ["/reason", "/agents", "/at", "/absent"].map(|pointer| cell(&value, pointer));
        assert_eq!(cells, ["-", "-", "-", "-"]);
    }

    #[test]
    fn lists_and_flags_read_as_words() {
        let value = json!({ "workloads": ["shop/orders", "shop/web"], "connected": true });
        assert_eq!(cell(&value, "/workloads"), "shop/orders,shop/web");
        assert_eq!(cell(&value, "/connected"), "yes");
    }
}
