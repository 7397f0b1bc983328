//! The data of the figure in `doc/performance.md`, as CSV in the folder which the environment names; `benches/swarm_figure.py`
//! draws it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::record::Record;
use super::setup::Setup;
use super::world::run;

const SEEDS: u64 = 3;

fn seconds(record: &Record) -> f64 {
    record.time().expect("all had everything").as_secs_f64()
}

#[test]
fn data() {
    let Some(folder) = std::env::var_os("CIRUELA_SWARM_CSV").map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).expect("the folder can be made");
    let mut table = String::from("case,nodes,seed,time,bound,client_sent,doubled\n");
    for nodes in [2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000] {
        for seed in 1..=if nodes < 500 { SEEDS } else { 1 } {
            let equal = Setup::new(seed, nodes);
            let cases = [
                ("equal links", equal.clone()),
                ("client at a tenth", Setup { client_rate: equal.rate / 10, ..equal.clone() }),
                ("a tenth dies", Setup { deaths: nodes / 10, ..equal.clone() }),
                ("1 % lost", Setup { stalls: 100, ..equal }),
            ];
            for (name, setup) in cases.into_iter().filter(|(name, _)| nodes < 500 || *name == "equal links") {
                let record = run(&setup);
                let (bound, client, doubled) =
                    (record.bound.as_secs_f64(), record.client_ratio(), record.doubled_ratio());
                let time = seconds(&record);
                writeln!(table, "{name},{nodes},{seed},{time:.6},{bound:.6},{client:.4},{doubled:.5}")
                    .expect("a string");
            }
        }
    }
    fs::write(folder.join("completion.csv"), table).expect("it can be written");
    let mut table = String::from("time,bound,least,tenth,median,nine_tenths,most\n");
    let record = run(&Setup::new(1, 100));
    for (time, [least, tenth, median, most_of, most]) in &record.spread {
        let (time, bound) = (time.as_secs_f64(), record.bound.as_secs_f64());
        writeln!(table, "{time:.6},{bound:.6},{least},{tenth},{median},{most_of},{most}").expect("a string");
    }
    fs::write(folder.join("spread.csv"), table).expect("it can be written");
}
