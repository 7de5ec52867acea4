<?php
// A front end for decisions. A POST has two fields:
//   method=request  payload is a line of tab-separated features; answers one decision
//   method=update   payload is what came of a decision; appended, as a line of JSON, to a queue for another process
// Whoever makes decisions writes decisions.json, {"<group>": "<decision>", …, "*": "<decision>"}, to the same folder;
// a group is the payload's first feature.
const LONGEST = 65536;
const QUEUE_LIMIT = 64 << 20;

header('Content-Type: text/plain; charset=utf-8');
header('Cache-Control: no-store');

function refuse(int $status, string $why): never
{
    http_response_code($status);
    exit($why . "\n");
}

function decide(string $folder, string $payload): string
{
    $group = explode("\t", $payload, 2)[0];
    $made = @file_get_contents("$folder/decisions.json");
    $decisions = $made === false ? null : json_decode($made, true);
    if (is_array($decisions)) {
        return (string) ($decisions[$group] ?? $decisions['*'] ?? '0');
    }
    return (string) (crc32($payload) % 2);
}

function enqueue(string $folder, string $line): void
{
    $lock = fopen("$folder/queue.lock", 'c');
    if ($lock === false || !flock($lock, LOCK_EX)) {
        refuse(503, 'the queue cannot be locked');
    }
    $queue = "$folder/queue.jsonl";
    // Nobody may be there to take it away: two files of this size are kept.
    if ((@filesize($queue) ?: 0) > QUEUE_LIMIT) {
        rename($queue, "$queue.1");
    }
    if (file_put_contents($queue, $line . "\n", FILE_APPEND) !== strlen($line) + 1) {
        refuse(503, 'the queue cannot be written');
    }
    flock($lock, LOCK_UN);
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Allow: POST');
    refuse(405, 'POST payload and method');
}
$payload = $_POST['payload'] ?? null;
if (!is_string($payload) || strlen($payload) > LONGEST) {
    refuse(400, 'payload is missing, or longer than ' . LONGEST . ' bytes');
}
$folder = getenv('LABTOOL_DATA') ?: sys_get_temp_dir();
switch ($_POST['method'] ?? '') {
    case 'request':
        echo decide($folder, $payload), "\n";
        break;
    case 'update':
        enqueue($folder, json_encode([
            'time' => microtime(true),
            'host' => gethostname(),
            'payload' => $payload,
        ], JSON_INVALID_UTF8_SUBSTITUTE));
        echo "queued\n";
        break;
    default:
        refuse(400, 'method is request or update');
}
