<?php
// Takes a known time: /work.php?ms=10 uses 10 ms of CPU time, /work.php?ms=10&how=sleep waits for 10 ms.
header('Content-Type: application/json');
header('Cache-Control: no-store');

function cpu_us(): int
{
    $used = getrusage();
    return ($used['ru_utime.tv_sec'] + $used['ru_stime.tv_sec']) * 1000000
        + $used['ru_utime.tv_usec'] + $used['ru_stime.tv_usec'];
}

$ms = filter_var($_GET['ms'] ?? '10', FILTER_VALIDATE_FLOAT, ['options' => ['min_range' => 0, 'max_range' => 60000]]);
$how = $_GET['how'] ?? 'cpu';
if ($ms === false || !in_array($how, ['cpu', 'sleep'], true)) {
    http_response_code(400);
    echo json_encode(['error' => 'ms is a number from 0 to 60000, how is cpu or sleep']), "\n";
    exit;
}
$began = hrtime(true);
$used = cpu_us();
if ($how === 'sleep') {
    usleep((int) round($ms * 1000));
} else {
    $until = $used + (int) round($ms * 1000);
    for ($turn = 0; cpu_us() < $until; $turn++);
}
echo json_encode([
    'cpu_ms' => (cpu_us() - $used) / 1000,
    'elapsed_ms' => round((hrtime(true) - $began) / 1e6, 3),
]), "\n";
