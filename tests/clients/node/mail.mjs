// Sends one message by nodemailer: {"transport": ..., "message": ...} on standard input, its answer on standard output.
import { createTransport } from "nodemailer";
import { text } from "node:stream/consumers";

const { transport, message } = JSON.parse(await text(process.stdin));
const sent = await createTransport(transport).sendMail(message);
process.stdout.write(JSON.stringify({ accepted: sent.accepted, response: sent.response }));
