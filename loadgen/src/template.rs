//! Texts with places that each client fills in: `{client}`, `{topic}`, `{csv.NAME}`,
//! `{payload}`. Any other brace stands for itself, so that JSON needs no escapes.
//!
//! Parsed once, before the run; filling one in allocates nothing.

use std::path::Path;

/// What a client fills in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Values {
    /// The client's number within the run, from 0: subscribers first, then publishers.
    pub client: u32,
    /// The number of its topic, from 0.
    pub topic: u32,
}

/// A text with places to fill in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Client,
    Topic,
    /// Column of the table.
    Column(usize),
    Payload,
}

/// What values there are, beside the client's own.
#[derive(Clone, Default, Debug)]
pub struct Table {
    columns: Vec<String>,
    /// Row by row.
    cells: Vec<String>,
}

impl Table {
    /// Reads a CSV file with a line of names on top.
    ///
    /// # Errors
    /// In words: the file, the line, and what is wrong there.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refused = |error: &dyn std::fmt::Display| format!("--csv {}: {error}", path.display());
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|e| refused(&e))?;
        let columns = reader.headers().map_err(|e| refused(&e))?.iter().map(str::to_owned).collect();
        let mut cells = Vec::new();
        for row in reader.records() {
            let row = row.map_err(|e| refused(&e))?;
            if let Some(odd) = row.iter().find(|cell| cell.contains(|c: char| c.is_control())) {
                return Err(refused(&format!("{odd:?} has a control character")));
            }
            cells.extend(row.iter().map(str::to_owned));
        }
        if cells.is_empty() {
            return Err(refused(&"no rows below the names"));
        }
        Ok(Self { columns, cells })
    }

    /// The value for a client; rows are used again when there are more clients.
    fn cell(&self, client: u32, column: usize) -> &str {
        let rows = self.cells.len() / self.columns.len();
        &self.cells[client as usize % rows * self.columns.len() + column]
    }
}

impl Template {
    /// A text in which nothing is to be filled in.
    pub fn literal(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.to_owned())] }
    }

    /// Finds the places of `text`.
    ///
    /// # Errors
    /// In words: a place that is none, or a column that the table does not have.
    pub fn parse(text: &str, table: &Table) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            literal += &rest[..at];
            rest = &rest[at..];
            let name = rest[1..].split_once('}').map_or("", |(name, _)| name);
            let Some(part) = place(name, table)? else {
                literal.push('{');
                rest = &rest[1..];
                continue;
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(part);
            rest = &rest[name.len() + 2..];
        }
        literal += rest;
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Appends the text; `payload` appends what stands for `{payload}`.
    pub fn append(&self, out: &mut Vec<u8>, values: Values, table: &Table, payload: impl Fn(&mut Vec<u8>)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Client => append_number(out, values.client),
                Part::Topic => append_number(out, values.topic),
                Part::Column(column) => out.extend_from_slice(table.cell(values.client, *column).as_bytes()),
                Part::Payload => payload(out),
            }
        }
    }

    /// How often the payload stands in it.
    pub fn payloads(&self) -> usize {
        self.parts.iter().filter(|part| **part == Part::Payload).count()
    }

    /// Whether the topic's number stands in it.
    pub fn names_topic(&self) -> bool {
        self.parts.contains(&Part::Topic)
    }
}

/// What stands for a name in braces; `None`: the brace means nothing.
fn place(name: &str, table: &Table) -> Result<Option<Part>, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(is_word) {
        return Ok(None);
    }
    if let Some(column) = name.strip_prefix("csv.") {
        let known = table.columns.iter().position(|known| known == column);
        return match known {
            Some(column) => Ok(Some(Part::Column(column))),
            None if table.columns.is_empty() => Err(format!("{{{name}}} needs --csv FILE")),
            None => Err(format!("{{{name}}} is no column of the file; it has {}", table.columns.join(", "))),
        };
    }
    match name {
        "client" => Ok(Some(Part::Client)),
        "topic" => Ok(Some(Part::Topic)),
        "payload" => Ok(Some(Part::Payload)),
        _ => Err(format!("{{{name}}} is none of {{client}}, {{topic}}, {{payload}}, {{csv.NAME}}")),
    }
}

fn append_number(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let text = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Table { columns: text(&["user", "token"]), cells: text(&["ann", "t1", "bob", "t2"]) }
    }

    fn filled(text: &str, client: u32, topic: u32) -> String {
        let mut out = Vec::new();
        let template = Template::parse(text, &table()).unwrap();
        template.append(&mut out, Values { client, topic }, &table(), |out| out.extend_from_slice(b"PAYLOAD"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_filled_in_and_rows_are_used_in_turn() {
        assert_eq!(filled("/room/{topic}?user={csv.user}&n={client}", 3, 10), "/room/10?user=bob&n=3");
        assert_eq!(filled("{csv.token}{csv.token}", 0, 0), "t1t1");
        assert_eq!(filled("PUB a{topic} 7\r\n{payload}\r\n", 0, 4_294_967_295), "PUB a4294967295 7\r\nPAYLOAD\r\n");
    }

    #[test]
    fn braces_of_json_stand_for_themselves() {
        for text in [r#"{"a":{"b":{}},"c":[{ }]}"#, "{", "}", "{}", "a{ client}", r#"{{"x":1}}"#] {
            assert_eq!(filled(text, 0, 0), text);
        }
        assert_eq!(
            filled(r#"{"subscribe":{"channel":"c{client}"},"id":{client}}"#, 7, 0),
            r#"{"subscribe":{"channel":"c7"},"id":7}"#
        );
    }

    #[test]
    fn names_that_mean_nothing_are_refused_with_those_that_do() {
        let refused = |text: &str, table: &Table| Template::parse(text, table).unwrap_err();
        assert!(refused("/{clinet}", &table()).contains("{client}, {topic}"));
        assert!(refused("{csv.age}", &table()).contains("it has user, token"));
        assert!(refused("{csv.age}", &Table::default()).contains("needs --csv"));
    }

    #[test]
    fn it_is_known_what_stands_in_a_template() {
        let template = Template::parse("{payload} {topic} {payload}", &table()).unwrap();
        assert_eq!((template.payloads(), template.names_topic()), (2, true));
        assert_eq!(Template::literal("{payload}").payloads(), 0);
    }
}
