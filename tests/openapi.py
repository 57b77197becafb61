def validate_response(method, path, response):
    return None
