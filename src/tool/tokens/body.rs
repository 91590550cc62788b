//! The JSON of a token with gaps: 64 recorded ones, each given its catalogue.
//!
//! `heads.txt` has one a line: the characters of its bearer token, the id of its project, and the
//! JSON, in which `<name>` stands for a gap. A body is kept as the pieces between the gaps; bodies
//! of one project share their catalogue, which is nine tenths of a token.

use super::catalogue::Catalogue;
use super::fields::{Fields, Gap};
use crate::tool::random::Random;
use std::collections::HashMap;
use std::sync::Arc;

/// No recorded head, its gaps filled, is longer.
pub const HEAD_BYTES_MAX: usize = 1500;

const HEADS: &str = include_str!("heads.txt");

/// One of the recorded tokens.
#[derive(Debug)]
pub struct Body {
    parts: Vec<Part>,
    bearer_chars: usize,
    bytes: usize,
    audit_at: usize,
}

#[derive(Debug)]
enum Part {
    Text(Arc<str>),
    Gap(Gap),
}

/// All of them, with this catalogue.
pub fn recorded(catalogue: &Catalogue) -> Vec<Body> {
    let mut catalogues: HashMap<&str, Arc<str>> = HashMap::new();
    let bodies = HEADS.lines().map(|line| {
        let mut columns = line.splitn(3, ' ');
        let mut column = || columns.next().expect("heads.txt has three columns");
        let bearer_chars = column().parse().expect("heads.txt: digits first");
        let project = column();
        let catalogue = catalogues
            .entry(project)
            .or_insert_with(|| catalogue.of_project(project).into());
        Body::new(column(), bearer_chars, catalogue)
    });
    bodies.collect()
}

impl Body {
    fn new(head: &str, bearer_chars: usize, catalogue: &Arc<str>) -> Self {
        let mut body = Body {
            parts: parts(head, catalogue),
            bearer_chars,
            bytes: 0,
            audit_at: 0,
        };
        let fields = body.fields(&mut Random::new(0), 0);
        for part in &body.parts {
            if matches!(part, Part::Gap(Gap::Audit)) {
                body.audit_at = body.bytes;
            }
            body.bytes += part.text(&fields).len();
        }
        body
    }

    /// Bytes of the JSON.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where in the JSON the audit id begins.
    pub fn audit_at(&self) -> usize {
        self.audit_at
    }

    /// The pieces of the JSON, in their order, its gaps filled with what is drawn; the audit id
    /// begins with `mark`.
    pub fn each_piece(&self, random: &mut Random, mark: u32, mut piece: impl FnMut(&[u8])) {
        let fields = self.fields(random, mark);
        for part in &self.parts {
            piece(part.text(&fields));
        }
    }

    fn fields(&self, random: &mut Random, mark: u32) -> Fields {
        Fields::new(random, mark, self.bearer_chars)
    }
}

impl Part {
    fn text<'a>(&'a self, fields: &'a Fields) -> &'a [u8] {
        match self {
            Part::Text(text) => text.as_bytes(),
            Part::Gap(gap) => fields.text(*gap),
        }
    }
}

fn parts(head: &str, catalogue: &Arc<str>) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in head.split('<') {
        let text = match piece.split_once('>') {
            Some((name, text)) => {
                parts.push(gap(name, catalogue));
                text
            }
            None => piece,
        };
        parts.push(Part::Text(text.into()));
    }
    parts
}

fn gap(name: &str, catalogue: &Arc<str>) -> Part {
    match name {
        "catalogue" => Part::Text(Arc::clone(catalogue)),
        "user" => Part::Gap(Gap::User),
        "name" => Part::Gap(Gap::Name),
        "audit" => Part::Gap(Gap::Audit),
        "parent" => Part::Gap(Gap::Parent),
        "clock" => Part::Gap(Gap::Clock),
        "bearer" => Part::Gap(Gap::Bearer),
        _ => unreachable!("heads.txt has no other gaps"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_64_heads_and_none_is_longer_than_said() {
        let bodies = recorded(&Catalogue::new(0, Some(0)));
        assert_eq!(bodies.len(), 64);
        for body in bodies {
            assert!(body.bytes() <= HEAD_BYTES_MAX, "{}", body.bytes());
        }
    }

    #[test]
    fn bodies_of_one_project_share_their_catalogue() {
        let bodies = recorded(&Catalogue::new(0, None));
        let texts = bodies.iter().flat_map(|body| &body.parts);
        let catalogues = texts.filter_map(|part| match part {
            Part::Text(text) if text.len() > 10_000 => Some(Arc::as_ptr(text).addr()),
            _ => None,
        });
        let catalogues: std::collections::HashSet<_> = catalogues.collect();
        assert_eq!(catalogues.len(), 15);
    }
}
