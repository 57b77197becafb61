// Reads [{rule, start, number}] from standard input, and writes the first `number` days of each
// series, or the text of what is thrown.

import { text } from "node:stream/consumers";
import { RRuleTemporal } from "rrule-temporal";

function days({ rule, start, number }) {
  try {
    const dtstart = `DTSTART;TZID=UTC:${start.replaceAll("-", "")}T000000`;
    // It takes UNTIL as an instant where the start is one.
    const instants = rule.replace(/(UNTIL=\d{8})/, "$1T000000Z");
    const series = new RRuleTemporal({ rruleString: `${dtstart}\nRRULE:${instants}` });
    return series.all((_, i) => i < number).map((instant) => instant.toPlainDate().toString());
  } catch (error) {
    return String(error);
  }
}

process.stdout.write(JSON.stringify(JSON.parse(await text(process.stdin)).map(days)));
