// Reads what loadgen wrote with a HdrHistogram that we did not write, and compares
// its figures with those of the report.
//
//   node tests/clients/histograms.js REPORT.json LOG.hlog RUN.hgrm
//
// Prints "ok histograms: CHECK" or "FAILED histograms: CHECK: WHY" for each check.
// Exit status 1 when one failed.
import { readFileSync } from "node:fs";
import hdr from "hdr-histogram-js";

const [reportPath, logPath, hgrmPath] = process.argv.slice(2);
const report = JSON.parse(readFileSync(reportPath, "utf8"));
let failed = false;

function check(name, problems) {
  failed ||= problems.length > 0;
  console.log(problems.length === 0 ? `ok histograms: ${name}` : `FAILED histograms: ${name}: ${problems.join("; ")}`);
}

// A reader may take either end of the range in which a value lies: 0.1 %.
const near = (a, b) => Math.abs(a - b) <= 0.0011 * Math.max(Math.abs(a), Math.abs(b));

function differences(histogram, quantiles, count) {
  const problems = [];
  if (histogram.totalCount !== count) problems.push(`${histogram.totalCount} values, not ${count}`);
  const percentiles = { p50: 50, p90: 90, p99: 99, p999: 99.9, p9999: 99.99, max: 100 };
  for (const [name, percentile] of Object.entries(percentiles)) {
    const micros = histogram.getValueAtPercentile(percentile) / 1000;
    if (!near(micros, quantiles[name])) problems.push(`${name} is ${micros} us, not ${quantiles[name]} us`);
  }
  return problems;
}

const tags = { corrected: report.latency_us, uncorrected: report.service_us };

for (const [name, quantiles] of [["latency", tags.corrected], ["service", tags.uncorrected], ["handshake", report.handshake_us]]) {
  const histogram = hdr.decodeFromCompressedBase64(report.histograms[name], 64);
  const count = name === "handshake" ? report.opened : report.received;
  check(`histograms.${name} of the report`, differences(histogram, quantiles, count));
}

const sums = {};
let intervals = 0;
const reader = new hdr.HistogramLogReader(readFileSync(logPath, "utf8"), 64);
for (let interval = reader.nextIntervalHistogram(); interval !== null; interval = reader.nextIntervalHistogram()) {
  intervals += 1;
  sums[interval.tag] ??= hdr.build({ bitBucketSize: 64, highestTrackableValue: 3.6e12, numberOfSignificantValueDigits: 3 });
  sums[interval.tag].add(interval);
}
for (const [tag, quantiles] of Object.entries(tags)) {
  const problems = tag in sums ? differences(sums[tag], quantiles, report.received) : ["no such tag"];
  check(`the interval log's lines with Tag=${tag}, added up`, problems);
}
check("the interval log has a line for each second and tag", intervals >= 2 * Math.floor(report.seconds) ? [] : [`${intervals}`]);

const histogram = hdr.decodeFromCompressedBase64(report.histograms.latency, 64);
// The other library writes the same lines. At a percentile that falls exactly between two
// values, rounding decides which of them stands there, so both are right.
const lines = (text) => text.trim().split("\n").map((line) => line.match(/[\d.]+/g)?.map(Number) ?? []);
const ours = lines(readFileSync(hgrmPath, "utf8"));
const theirs = lines(histogram.outputPercentileDistribution(5, 1e6));
const problems = ours.length === theirs.length ? [] : [`${ours.length} lines, not ${theirs.length}`];
const millis = (percentile) => histogram.getValueAtPercentile(Math.min(percentile, 100)) / 1e6;
for (let i = 0; i < Math.min(ours.length, theirs.length); i += 1) {
  const [line, other] = [ours[i], theirs[i]];
  const isValue = other.length >= 3 && other[1] <= 1 && i < theirs.length - 3;
  const [low, high] = isValue ? [millis(100 * line[1]), millis(100 * line[1] + 150 / histogram.totalCount)] : [0, 0];
  const same = isValue
    ? line.length === other.length && near(line[1], other[1]) && line[0] >= low * 0.9989 - 0.0006 && line[0] <= high * 1.0011 + 0.0006
    : line.length === other.length && line.every((value, j) => near(value, other[j]) || Math.abs(value - other[j]) <= 0.0011);
  if (!same) problems.push(`line ${i + 1} is ${line.join(" ")}, not ${other.join(" ")}`);
}
check("the percentile distribution is the one that the other library writes", problems);

process.exit(failed ? 1 : 0);
