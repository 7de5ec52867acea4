<?php
// Shows that PHP answers, and answers now: with the nonce that it was asked with.
header('Content-Type: application/json');
header('Cache-Control: no-store');
$nonce = (string) ($_GET['nonce'] ?? '');
echo json_encode([
    'nonce' => preg_match('/^[A-Za-z0-9-]{1,64}$/', $nonce) ? $nonce : '',
    'host' => gethostname(),
    'php' => PHP_VERSION,
]), "\n";
