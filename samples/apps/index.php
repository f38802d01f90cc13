<?php
// Stands for WordPress's front controller in samples/wordpress-php.conf: tells what it was asked.
header('Content-Type: application/json');
echo json_encode([
    'uri' => $_SERVER['REQUEST_URI'],
    'script' => $_SERVER['SCRIPT_NAME'],
    'path' => $_SERVER['PATH_INFO'] ?? '',
    'query' => $_GET,
    'posted' => $_POST,
    'client' => $_SERVER['REMOTE_ADDR'],
]);
