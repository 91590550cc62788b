//! The service catalogue of a cloud: the recorded one, that of another cloud, longer or shorter.
//!
//! `catalogue.txt` has a service a line, as it stands in the JSON, `<project>` where the URL names
//! the token's project. Services that are made up follow after the recorded ones, in the same form;
//! one in four names the project, as of the recorded ones five in nineteen do.

use super::fields::hex;
use crate::tool::random::{Random, mix};

const RECORDED: &str = include_str!("catalogue.txt");

/// Where the id of the project goes.
const PROJECT: &str = "<project>";

/// Characters of that id.
const PROJECT_CHARS: usize = 32;

/// What stands before every id, and before nothing else.
const ID: &str = r#""id": ""#;

/// No catalogue with the services of the recorded one is longer, whatever its number.
const RECORDED_BYTES_MAX: usize = 16 << 10;

/// No single service is longer.
const SERVICE_BYTES_MAX: usize = 1 << 10;

/// Types and names of the services that are made up: of OpenStack's own, those that were not
/// recorded.
const MADE_UP: [(&str, &str); 20] = [
    ("workflow", "mistral"),
    ("messaging", "zaqar"),
    ("instance-ha", "masakari"),
    ("backup", "freezer"),
    ("infra-optim", "watcher"),
    ("registration", "adjutant"),
    ("rating", "cloudkitty"),
    ("nfv-orchestration", "tacker"),
    ("function-engine", "qinling"),
    ("clustering", "senlin"),
    ("database", "trove"),
    ("data-processing", "sahara"),
    ("application-catalog", "murano"),
    ("accelerator", "cyborg"),
    ("container", "zun"),
    ("reservation", "blazar"),
    ("rca", "vitrage"),
    ("policy", "congress"),
    ("monitoring", "monasca"),
    ("event", "panko"),
];

/// The services of one cloud, in the order in which its catalogue lists them.
#[derive(Debug)]
pub struct Catalogue {
    services: Vec<String>,
}

/// What no catalogue is longer than that was asked to have so many bytes.
pub fn bytes_at_most(bytes: Option<usize>) -> usize {
    bytes.map_or(RECORDED_BYTES_MAX, |bytes| bytes + SERVICE_BYTES_MAX)
}

impl Catalogue {
    /// The catalogue of this number, 0 being the recorded one. With `bytes`, it has as many
    /// services as it takes to be so long.
    pub fn new(number: u64, bytes: Option<usize>) -> Self {
        let recorded = RECORDED.lines().map(str::to_owned);
        let all = (0..).zip(recorded.chain((0..).map(made_up)));
        let of_number = all.map(|(at, service)| match number {
            0 => service,
            _ => of_cloud(number, at, &service),
        });
        let services = match bytes {
            None => of_number.take(RECORDED.lines().count()).collect(),
            Some(bytes) => long_enough(of_number, bytes),
        };
        Catalogue { services }
    }

    /// Its JSON, as a token for this project has it.
    pub fn of_project(&self, project: &str) -> String {
        format!("[{}]", self.services.join(", ")).replace(PROJECT, project)
    }
}

/// So many of the services that the catalogue has `bytes` bytes.
fn long_enough(services: impl Iterator<Item = String>, bytes: usize) -> Vec<String> {
    let mut length = "[]".len();
    let mut taken = Vec::new();
    for service in services {
        if length >= bytes {
            break;
        }
        let projects = service.matches(PROJECT).count();
        let separator = if taken.is_empty() { 0 } else { ", ".len() };
        length += separator + service.len() + projects * PROJECT_CHARS - projects * PROJECT.len();
        taken.push(service);
    }
    taken
}

/// The same service in the cloud of this number: other ids, other URLs, another name.
fn of_cloud(number: u64, at: u64, service: &str) -> String {
    let mut random = Random::new(mix(number) ^ mix(!at));
    let mut pieces = service.split(ID);
    let mut other = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        other.push_str(ID);
        push_id(&mut random, &mut other);
        other.push_str(piece.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    let other = other
        .replace("example.internal", &format!("cloud-{number}.internal"))
        .replace("127.0.0.1", &format!("localhost.cloud-{number}.internal"));
    match other.strip_suffix(r#""}"#) {
        Some(start) => format!(r#"{start}-cloud-{number}"}}"#),
        None => other,
    }
}

/// A service that nobody recorded.
fn made_up(number: u64) -> String {
    let mut random = Random::new(mix(!number));
    let (kind, name) = MADE_UP[number as usize % MADE_UP.len()];
    let again = match number / MADE_UP.len() as u64 {
        0 => String::new(),
        round => format!("-{}", round + 1),
    };
    let port = 9000 + random.below(1000);
    let path = if number.is_multiple_of(4) {
        format!("/v1/{PROJECT}")
    } else {
        String::new()
    };
    let mut endpoint = |interface, host| {
        let mut id = String::new();
        push_id(&mut random, &mut id);
        format!(
            r#"{{"id": "{id}", "interface": "{interface}", "region_id": "RegionOne", "url": "https://{name}{again}{host}.example.internal:{port}{path}", "region": "RegionOne"}}"#
        )
    };
    let endpoints = [
        endpoint("public", ""),
        endpoint("internal", "-internal"),
        endpoint("admin", "-admin"),
    ]
    .join(", ");
    let mut id = String::new();
    push_id(&mut random, &mut id);
    format!(
        r#"{{"endpoints": [{endpoints}], "id": "{id}", "type": "{kind}{again}", "name": "{name}{again}"}}"#
    )
}

fn push_id(random: &mut Random, out: &mut String) {
    let digits: [u8; 32] = hex(&random.uuid());
    out.extend(digits.map(char::from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    const PROJECT_ID: &str = "c3f3f88064174068a9bd48f6c468e26e";

    fn parsed(number: u64, bytes: Option<usize>) -> Vec<Value> {
        let text = Catalogue::new(number, bytes).of_project(PROJECT_ID);
        serde_json::from_str(&text).unwrap()
    }

    /// All ids, URLs and names of services.
    fn own(services: &[Value]) -> HashSet<String> {
        let mut own = HashSet::new();
        for service in services {
            let endpoints = service["endpoints"].as_array().unwrap();
            assert_eq!(endpoints.len(), 3);
            let of_endpoint = endpoints.iter().flat_map(|one| [&one["id"], &one["url"]]);
            for text in of_endpoint.chain([&service["id"], &service["name"]]) {
                own.insert(text.to_string());
            }
        }
        own
    }

    #[test]
    fn a_catalogue_is_as_long_as_it_takes_whole_services_to_be() {
        for bytes in [0, 500, 5_000, 12_072, 12_073, 39_000, 1 << 20] {
            let text = Catalogue::new(0, Some(bytes)).of_project(PROJECT_ID);
            assert!(text.len() >= bytes.max(2), "{bytes}");
            assert!(text.len() < bytes + SERVICE_BYTES_MAX, "{bytes}");
        }
        let recorded = Catalogue::new(0, None).of_project(PROJECT_ID);
        assert_eq!(recorded.len(), 12_072);
        assert_eq!(
            Catalogue::new(0, Some(12_072)).of_project(PROJECT_ID),
            recorded
        );
        assert!(parsed(0, Some(0)).is_empty());
    }

    #[test]
    fn another_number_is_another_cloud_throughout() {
        for bytes in [None, Some(39_000)] {
            let [zero, one, two] = [0, 1, 2].map(|number| own(&parsed(number, bytes)));
            assert!(zero.is_disjoint(&one) && zero.is_disjoint(&two) && one.is_disjoint(&two));
        }
        let longest = Catalogue::new(u64::MAX, None).of_project(PROJECT_ID);
        assert!(longest.len() <= RECORDED_BYTES_MAX, "{}", longest.len());
        let services = Catalogue::new(u64::MAX, Some(100_000)).services;
        assert!(services.iter().all(|one| one.len() < SERVICE_BYTES_MAX));
    }

    #[test]
    fn made_up_services_have_the_fields_of_recorded_ones_and_ids_of_their_own() {
        let services = parsed(0, Some(200_000));
        let ids: HashSet<_> = services.iter().map(|one| one["id"].to_string()).collect();
        assert_eq!(ids.len(), services.len());
        let fields = |value: &Value| {
            let keys = value.as_object().unwrap().keys();
            keys.cloned().collect::<Vec<_>>()
        };
        for service in &services {
            assert_eq!(fields(service), fields(&services[0]));
            let (one, other) = (&service["endpoints"][2], &services[0]["endpoints"][0]);
            assert_eq!(fields(one), fields(other));
        }
    }
}
